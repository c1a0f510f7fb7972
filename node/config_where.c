/* A second look at a YAML text through libyaml's events: is it a plain tree of
 * mappings, lists and scalars, and where in it does a value stand?
 *
 * Positions are looked up only when something is to be said, by walking the
 * text once more; so nothing is remembered for the good case.
 *
 * An inline psk passes through libyaml's buffers and tokens, which nobody else can wipe. So the
 * four functions by which that library gets its memory are ours: a program's definition comes
 * before a shared library's. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "node/config_internal.h"
#include "proto/err.h"

enum { DEPTH_MAX = 16, PATH_TEXT = 256 };

/* ---- libyaml's memory ---- */

void *yaml_malloc(size_t n);
void *yaml_realloc(void *bytes, size_t n);
void yaml_free(void *bytes);
yaml_char_t *yaml_strdup(const yaml_char_t *text);

void *yaml_malloc(size_t n)
{
    return secret_malloc(n);
}

void *yaml_realloc(void *bytes, size_t n)
{
    return secret_realloc(bytes, n ? n : 1); /* libyaml takes NULL for a failure */
}

void yaml_free(void *bytes)
{
    secret_release(bytes);
}

yaml_char_t *yaml_strdup(const yaml_char_t *text)
{
    size_t n = text ? strlen((const char *)text) + 1 : 0;
    yaml_char_t *copy = text ? secret_malloc(n) : NULL;

    if (copy)
        memcpy(copy, text, n);
    return copy;
}

/* ---- walking ---- */

struct level {
    bool is_map, at_value, on_path, key_fits;
    uint32_t index; /* of the next entry of a list */
    yaml_mark_t key;
};

struct walk {
    yaml_parser_t parser;
    yaml_event_t event;
    bool have_event;
    unsigned depth;
    struct level level[DEPTH_MAX + 1];
};

static bool walk_start(struct walk *w, const struct config_source *src)
{
    memset(w, 0, sizeof *w);
    if (!yaml_parser_initialize(&w->parser))
        return false;
    yaml_parser_set_input_string(&w->parser, src->text, src->n);
    return true;
}

static void walk_drop_event(struct walk *w)
{
    if (!w->have_event)
        return;
    if (w->event.type == YAML_SCALAR_EVENT)
        wipe(w->event.data.scalar.value, w->event.data.scalar.length);
    yaml_event_delete(&w->event);
    w->have_event = false;
}

static bool walk_next(struct walk *w)
{
    walk_drop_event(w);
    w->have_event = yaml_parser_parse(&w->parser, &w->event) != 0;
    return w->have_event;
}

static void walk_end(struct walk *w)
{
    walk_drop_event(w);
    yaml_parser_delete(&w->parser);
}

static bool is_start(yaml_event_type_t type)
{
    return type == YAML_MAPPING_START_EVENT || type == YAML_SEQUENCE_START_EVENT;
}

static bool is_end(yaml_event_type_t type)
{
    return type == YAML_MAPPING_END_EVENT || type == YAML_SEQUENCE_END_EVENT;
}

/* ---- errors ---- */

static int fail_v(const struct config_source *src, unsigned line, unsigned column,
                  const char *format, va_list args)
{
    struct config_error *err = src->err;

    snprintf(err->file, sizeof err->file, "%s", src->file);
    err->line = line;
    err->column = column;
    vsnprintf(err->text, sizeof err->text, format, args);
    for (char *c = err->text; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = '?';
    return ERR_CONFIG;
}

int config_fail_line(const struct config_source *src, unsigned line, unsigned column,
                     const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fail_v(src, line, column, format, args);
    va_end(args);
    return ERR_CONFIG;
}

static void place(struct config_at at, enum config_mark mark, unsigned *line, unsigned *column)
{
    char path[PATH_TEXT] = "";

    if (at.list)
        snprintf(path, sizeof path, "%s[%zu]%s%s", at.list, at.index, at.key ? "." : "",
                 at.key ? at.key : "");
    else if (at.key)
        snprintf(path, sizeof path, "%s", at.key);
    *line = *column = 1;
    if (path[0])
        config_where(at.src, path, mark, line, column);
}

int config_fail(struct config_at at, const char *format, ...)
{
    unsigned line, column;
    va_list args;

    place(at, CONFIG_AT_VALUE, &line, &column);
    va_start(args, format);
    fail_v(at.src, line, column, format, args);
    va_end(args);
    return ERR_CONFIG;
}

int config_fail_mark(struct config_at at, enum config_mark mark, const char *format, ...)
{
    unsigned line, column;
    va_list args;

    place(at, mark, &line, &column);
    va_start(args, format);
    fail_v(at.src, line, column, format, args);
    va_end(args);
    return ERR_CONFIG;
}

int config_no_memory(const struct config_source *src)
{
    (void)config_fail_line(src, 1, 1, "out of memory; give the machine more or the file less");
    return ERR_NOMEM;
}

/* ---- the look before libcyaml ---- */

/* libyaml gives a mark for its scanner and parser, an offset for its reader. */
static int fail_syntax(const struct config_source *src, const yaml_parser_t *p)
{
    unsigned line = (unsigned)p->problem_mark.line + 1;
    unsigned column = (unsigned)p->problem_mark.column + 1;

    if (p->error == YAML_MEMORY_ERROR)
        return config_no_memory(src);
    if (p->error == YAML_READER_ERROR) {
        line = column = 1;
        for (size_t i = 0; i < p->problem_offset && i < src->n; i++) {
            column++;
            if (src->text[i] == '\n') {
                line++;
                column = 1;
            }
        }
        return config_fail_line(src, line, column, "not text in UTF-8: %s; save the file as UTF-8",
                                p->problem ? p->problem : "bad character");
    }
    return config_fail_line(src, line, column,
                            "YAML syntax: %s%s%s; check quotes, brackets and indentation here",
                            p->context ? p->context : "", p->context ? ", " : "",
                            p->problem ? p->problem : "not understood");
}

static int fail_event(const struct config_source *src, const yaml_event_t *e, const char *text)
{
    return config_fail_line(src, (unsigned)e->start_mark.line + 1,
                            (unsigned)e->start_mark.column + 1, "%s", text);
}

/* Looks at one event inside the document and keeps the levels. */
static int precheck_event(const struct config_source *src, struct walk *w)
{
    const yaml_event_t *e = &w->event;
    struct level *l = &w->level[w->depth];
    bool is_key = w->depth && l->is_map && !l->at_value;

    if (is_end(e->type)) {
        w->depth--;
        return ERR_OK;
    }
    if (e->type == YAML_ALIAS_EVENT)
        return fail_event(src, e, "aliases (*name) are not supported; write the value out");
    if (e->type == YAML_SCALAR_EVENT &&
        memchr(e->data.scalar.value, 0, e->data.scalar.length) != NULL)
        return fail_event(src, e, "a NUL character in a value; remove it");
    if (is_key && e->type != YAML_SCALAR_EVENT)
        return fail_event(src, e, "a key must be a single word; write key: value");
    if (w->depth && l->is_map)
        l->at_value = !l->at_value;
    if (is_start(e->type)) {
        if (w->depth == DEPTH_MAX)
            return fail_event(src, e, "nested too deeply; see the example in the README");
        w->level[++w->depth] = (struct level){.is_map = e->type == YAML_MAPPING_START_EVENT};
    }
    return ERR_OK;
}

int config_precheck(const struct config_source *src)
{
    struct walk w;
    unsigned documents = 0;
    bool done = false;
    int rc = ERR_OK;

    if (!walk_start(&w, src))
        return config_no_memory(src);
    while (!done && rc == ERR_OK) {
        if (!walk_next(&w)) {
            rc = fail_syntax(src, &w.parser);
            break;
        }
        switch (w.event.type) {
        case YAML_STREAM_START_EVENT:
        case YAML_DOCUMENT_END_EVENT:
            break;
        case YAML_STREAM_END_EVENT:
            done = true;
            if (!documents)
                rc =
                    config_fail_line(src, 1, 1, "the file is empty; see the example in the README");
            break;
        case YAML_DOCUMENT_START_EVENT:
            if (++documents > 1)
                rc = fail_event(src, &w.event, "a second document; keep only one in the file");
            break;
        default:
            rc = precheck_event(src, &w);
        }
    }
    walk_end(&w);
    return rc;
}

/* ---- the place of a value ---- */

enum { PARTS_MAX = 8 };
struct part {
    const char *key; /* NULL: an index */
    size_t key_n;
    uint32_t index;
};

/* Splits "a.b[2].c". Our own paths only: an overlong one is cut. */
static unsigned split_path(const char *path, struct part parts[PARTS_MAX])
{
    unsigned n = 0;

    while (*path && n < PARTS_MAX) {
        if (*path == '[') {
            char *end;
            parts[n++] = (struct part){.index = (uint32_t)strtoul(path + 1, &end, 10)};
            path = *end == ']' ? end + 1 : end;
        } else {
            size_t len = strcspn(path, ".[");
            parts[n++] = (struct part){.key = path, .key_n = len};
            path += len;
        }
        if (*path == '.')
            path++;
    }
    return n;
}

struct search {
    struct part parts[PARTS_MAX];
    unsigned n;
    enum config_mark mark;
    yaml_mark_t found; /* the best so far */
    bool exact;
};

/* Takes a key of the mapping that is `l`. */
static void search_key(struct search *s, struct level *l, unsigned depth, const yaml_event_t *e)
{
    const struct part *part = &s->parts[depth - 1];

    l->at_value = true;
    l->key = e->start_mark;
    l->key_fits = l->on_path && depth <= s->n && part->key &&
                  part->key_n == e->data.scalar.length &&
                  memcmp(part->key, e->data.scalar.value, part->key_n) == 0;
}

/* Takes a value of the container at `depth`; true when it lies on the path. */
static bool search_value(struct search *s, struct level *l, unsigned depth, const yaml_event_t *e)
{
    bool fits;

    if (l->is_map) {
        fits = l->key_fits;
        l->at_value = false;
    } else {
        fits = l->on_path && depth <= s->n && !s->parts[depth - 1].key &&
               s->parts[depth - 1].index == l->index;
        l->index++;
    }
    if (!fits)
        return false;
    s->found = e->start_mark;
    if (depth == s->n) {
        s->exact = true;
        if (s->mark != CONFIG_AT_VALUE && l->is_map)
            s->found = l->key;
    }
    return true;
}

/* One event of the document; false when the search is over. */
static bool search_event(struct search *s, struct walk *w)
{
    const yaml_event_t *e = &w->event;
    struct level *l = &w->level[w->depth];
    bool on_path;

    if (is_end(e->type))
        return --w->depth > 0;
    if (w->depth == 0) {
        s->found = e->start_mark;
        on_path = true;
    } else if (l->is_map && !l->at_value && e->type == YAML_SCALAR_EVENT) {
        search_key(s, l, w->depth, e);
        return true;
    } else {
        on_path = search_value(s, l, w->depth, e);
    }
    if (s->exact && s->mark != CONFIG_AT_LAST_KEY)
        return false;
    if (is_start(e->type)) {
        if (w->depth == DEPTH_MAX)
            return false;
        w->level[++w->depth] = (struct level){
            .is_map = e->type == YAML_MAPPING_START_EVENT,
            .on_path = on_path,
        };
    }
    return w->depth > 0;
}

void config_where(const struct config_source *src, const char *path, enum config_mark mark,
                  unsigned *line, unsigned *column)
{
    struct search s = {.mark = mark};
    struct walk w;

    s.n = split_path(path, s.parts);
    if (walk_start(&w, src)) {
        while (walk_next(&w)) {
            yaml_event_type_t type = w.event.type;
            if (type == YAML_STREAM_END_EVENT || type == YAML_DOCUMENT_END_EVENT)
                break;
            if (type == YAML_STREAM_START_EVENT || type == YAML_DOCUMENT_START_EVENT)
                continue;
            if (!search_event(&s, &w))
                break;
        }
        walk_end(&w);
    }
    *line = (unsigned)s.found.line + 1;
    *column = (unsigned)s.found.column + 1;
}
