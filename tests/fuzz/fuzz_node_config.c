/* The configuration files as bytes: what follows a line "%%%" is the tunnels file. Whatever
 * they hold, the load ends in a config or in one error with a place. */
#include <assert.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "node/config.h"
#include "proto/err.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char directory[64];

static void write_file(const char *name, const void *bytes, size_t n)
{
    char path[128];
    int fd;

    snprintf(path, sizeof path, "%s/%s", directory, name);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || write(fd, bytes, n) != (ssize_t)n)
        abort();
    close(fd);
}

static void clean_up(void)
{
    static const char *const names[] = {"node.yaml", "tunnels.yaml", "cluster.key", "psk"};
    char path[128];

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", directory, names[i]);
        unlink(path);
    }
    rmdir(directory);
}

/* A node file for inputs that are a tunnels file alone. */
static const char node_yaml[] =
    "node: {name: n1, slot: 1}\n"
    "cluster: {name: lab, key_file: cluster.key, id_domain: example.net}\n"
    "anycast: {addresses: [192.0.2.1]}\n"
    "mesh: {members: [{slot: 1, address: \"10.99.0.1:7800\"}]}\n"
    "tunnels_file: tunnels.yaml\n";

static void set_up(void)
{
    static const char key[] =
        "1 0000000000000000000000000000000000000000000000000000000000000001\n";

    snprintf(directory, sizeof directory, "/tmp/anysa-fuzz-XXXXXX");
    if (!mkdtemp(directory))
        abort();
    atexit(clean_up);
    write_file("cluster.key", key, sizeof key - 1);
    write_file("psk", "secret\n", 7);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char mark[] = "%%%\n";
    const uint8_t *split = memmem(data, size, mark, sizeof mark - 1);
    struct config_error err;
    struct config *cfg;
    char path[128];
    int rc;

    if (!directory[0])
        set_up();
    if (split == data) {
        write_file("node.yaml", node_yaml, sizeof node_yaml - 1);
    } else {
        write_file("node.yaml", data, split ? (size_t)(split - data) : size);
    }
    if (split)
        write_file("tunnels.yaml", split + sizeof mark - 1,
                   size - (size_t)(split - data) - (sizeof mark - 1));
    else
        write_file("tunnels.yaml", "tunnels:\n", 9);
    snprintf(path, sizeof path, "%s/node.yaml", directory);
    rc = config_load(path, &cfg, &err);
    if (rc == ERR_OK) {
        if (!cfg || cfg->cluster.n_keys == 0 || !config_self(cfg))
            abort();
        if (config_reload_tunnels(cfg, &err) != ERR_OK)
            abort();
        config_free(cfg);
    } else if (cfg || !err.file[0] || !err.line || !err.column || !err.text[0]) {
        abort();
    }
    return 0;
}
