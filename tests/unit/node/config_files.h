/* A good configuration in a directory of its own, to be spoilt one value at a time. */
#ifndef TESTS_UNIT_NODE_CONFIG_FILES_H
#define TESTS_UNIT_NODE_CONFIG_FILES_H

#include <sys/types.h>

extern const char good_node_yaml[], good_tunnels_yaml[], good_cluster_key[];

/* Makes the directory and the good files in it: node.yaml, tunnels.yaml, cluster.key, api.token,
 * psk/acme-ams. */
void config_files_begin(void);
void config_files_end(void); /* removes it all */
/* Static storage: the path of a file in the directory; "" for the directory itself. */
const char *config_file(const char *name);
void config_write(const char *name, const char *text, mode_t mode);
/* Writes `good` with the first `from` replaced by `to`; fails the test when it is not there. */
void config_write_changed(const char *name, const char *good, const char *from, const char *to,
                          mode_t mode);

#endif
