/* host_take_state_dir: a directory that is ours alone, locked. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config_files.h"
#include "node/node.h"
#include "proto/log.h"

static char said[512];

static void remember(enum log_level level, const char *area, const char *text)
{
    (void)level;
    (void)area;
    snprintf(said, sizeof said, "%s", text);
}

static void begin(void)
{
    config_files_begin();
    log_set_sink(remember);
    said[0] = 0;
}

TestSuite(state_dir, .init = begin, .fini = config_files_end);

static void refused(const char *dir, const char *what, const char *remedy)
{
    cr_expect_eq(host_take_state_dir(dir), -1);
    cr_expect(strstr(said, what) && strstr(said, remedy), "'%s', not '%s' and '%s'", said, what,
              remedy);
    said[0] = 0;
}

static void taken(const char *dir)
{
    int fd = host_take_state_dir(dir);

    cr_expect_geq(fd, 0, "%s", said);
    close(fd);
}

Test(state_dir, is_made_for_us_alone)
{
    char dir[300];
    struct stat st;

    snprintf(dir, sizeof dir, "%s", config_file("state"));
    taken(dir);
    cr_assert_eq(stat(dir, &st), 0);
    cr_expect_eq(st.st_mode & 07777, 0700);
    taken(dir);
}

Test(state_dir, others_may_not_write_there)
{
    static const mode_t loose[] = {0720, 0702, 0777, 01777};
    char dir[300];

    snprintf(dir, sizeof dir, "%s", config_file("state"));
    cr_assert_eq(mkdir(dir, 0700), 0);
    for (size_t i = 0; i < sizeof loose / sizeof *loose; i++) {
        char mode[32];
        cr_assert_eq(chmod(dir, loose[i]), 0);
        snprintf(mode, sizeof mode, "(mode %04o)", (unsigned)loose[i]);
        refused(dir, mode, "chmod 700 ");
    }
    cr_assert_eq(chmod(dir, 0755), 0);
    taken(dir);
}

Test(state_dir, nor_read_the_journal)
{
    char dir[300];

    snprintf(dir, sizeof dir, "%s", config_file("state"));
    cr_assert_eq(mkdir(dir, 0700), 0);
    config_write("state/journal.db", "", 0600);
    taken(dir);
    config_write("state/journal.db-wal", "", 0640);
    refused(dir, "journal.db-wal is open to others (mode 0640)", "chmod 600 ");
    unlink(config_file("state/journal.db-wal"));
    unlink(config_file("state/journal.db"));
    cr_assert_eq(symlink("/dev/null", config_file("state/journal.db")), 0);
    refused(dir, "journal.db is not a regular file", "remove it");
}

Test(state_dir, of_another_user)
{
    enum { NOBODY = 65534 };
    char dir[300];

    if (geteuid() != 0)
        cr_skip_test("only root can give files away");
    snprintf(dir, sizeof dir, "%s", config_file("state"));
    cr_assert_eq(mkdir(dir, 0700), 0);
    cr_assert_eq(chown(dir, NOBODY, NOBODY), 0);
    refused(dir, "belongs to uid 65534", "chown 0 ");
}
