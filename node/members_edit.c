/* libyaml says where the list and its entries stand; the text is cut and joined there. Two forms
 * are known: [{...}, {...}], on one line or several, and lines that begin with "- ". */
#include "node/members_edit.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <yaml.h>

#include "proto/err.h"

struct place { /* of the list or of an entry; bytes */
    size_t start, end;
};

struct list {
    bool flow;
    struct place all;    /* with brackets, when it is in the flow style */
    struct place before; /* the entry before it, if there is one */
    struct place entry;  /* the one asked for */
    size_t n;
};

/* ---- positions ---- */

/* libyaml counts characters, and no byte order mark. */
static size_t byte_at(struct slice text, size_t characters)
{
    size_t at = text.n >= 3 && memcmp(text.p, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;

    for (; characters && at < text.n; characters--)
        do
            at++;
        while (at < text.n && (text.p[at] & 0xc0) == 0x80);
    return at;
}

static size_t line_start(struct slice text, size_t at)
{
    while (at > 0 && text.p[at - 1] != '\n')
        at--;
    return at;
}

/* Behind the newline. */
static size_t line_end(struct slice text, size_t at)
{
    while (at < text.n && text.p[at] != '\n')
        at++;
    return at < text.n ? at + 1 : at;
}

static size_t skip_blanks(struct slice text, size_t at)
{
    while (at < text.n && (text.p[at] == ' ' || text.p[at] == '\t'))
        at++;
    return at;
}

/* ---- the list ---- */

static yaml_node_t *value_of(yaml_document_t *doc, yaml_node_t *map, const char *key)
{
    if (!map || map->type != YAML_MAPPING_NODE)
        return NULL;
    for (yaml_node_pair_t *p = map->data.mapping.pairs.start; p < map->data.mapping.pairs.top;
         p++) {
        yaml_node_t *k = yaml_document_get_node(doc, p->key);
        if (k && k->type == YAML_SCALAR_NODE &&
            strcmp((const char *)k->data.scalar.value, key) == 0)
            return yaml_document_get_node(doc, p->value);
    }
    return NULL;
}

/* A mapping in the block style ends, for libyaml, where the next thing begins: not so here. */
static struct place place_of(struct slice text, yaml_document_t *doc, yaml_node_t *node)
{
    struct place p = {byte_at(text, node->start_mark.index), byte_at(text, node->end_mark.index)};

    if (node->type == YAML_MAPPING_NODE && node->data.mapping.style != YAML_FLOW_MAPPING_STYLE) {
        p.end = p.start;
        for (yaml_node_pair_t *i = node->data.mapping.pairs.start; i < node->data.mapping.pairs.top;
             i++) {
            yaml_node_t *value = yaml_document_get_node(doc, i->value);
            size_t end = value ? byte_at(text, value->end_mark.index) : 0;
            if (end > p.end)
                p.end = end;
        }
    }
    return p;
}

static int measure(struct slice text, yaml_document_t *doc, size_t index, struct list *out)
{
    yaml_node_t *mesh = value_of(doc, yaml_document_get_root_node(doc), "mesh");
    yaml_node_t *list = value_of(doc, mesh, "members"), *entry;
    const yaml_node_item_t *items;

    if (!list || list->type != YAML_SEQUENCE_NODE)
        return ERR_INVALID;
    items = list->data.sequence.items.start;
    out->n = (size_t)(list->data.sequence.items.top - items);
    if (index == SIZE_MAX)
        index = out->n - 1;
    if (out->n == 0 || index >= out->n)
        return ERR_INVALID;
    out->flow = list->data.sequence.style == YAML_FLOW_SEQUENCE_STYLE;
    out->all = place_of(text, doc, list);
    entry = yaml_document_get_node(doc, items[index]);
    if (!entry || entry->type != YAML_MAPPING_NODE)
        return ERR_INVALID;
    out->entry = place_of(text, doc, entry);
    if (index > 0)
        out->before = place_of(text, doc, yaml_document_get_node(doc, items[index - 1]));
    return ERR_OK;
}

/* The list, and the entry with this index; SIZE_MAX: the last one. */
static int look(struct slice text, size_t index, struct list *out)
{
    yaml_parser_t parser;
    yaml_document_t doc;
    int rc = ERR_INVALID;

    *out = (struct list){.n = 0};
    if (!yaml_parser_initialize(&parser))
        return ERR_NOMEM;
    yaml_parser_set_input_string(&parser, text.p, text.n);
    if (yaml_parser_load(&parser, &doc)) {
        rc = measure(text, &doc, index, out);
        yaml_document_delete(&doc);
    }
    yaml_parser_delete(&parser);
    return rc;
}

/* ---- cutting and joining ---- */

struct out {
    char *p;
    size_t n;
};

static void put(struct out *o, const void *bytes, size_t n)
{
    memcpy(o->p + o->n, bytes, n);
    o->n += n;
}

static void put_text(struct out *o, const char *text)
{
    put(o, text, strlen(text));
}

/* The dash must be the first thing of the entry's first line, and nothing else there before it. */
static bool dash_of(struct slice text, size_t entry, size_t *dash)
{
    size_t at = skip_blanks(text, line_start(text, entry));

    *dash = at;
    return at < text.n && text.p[at] == '-' && skip_blanks(text, at + 1) == entry;
}

static int cut(struct slice text, struct place gone, char *out, size_t *n_out)
{
    struct out o = {out, 0};

    put(&o, text.p, gone.start);
    put(&o, text.p + gone.end, text.n - gone.end);
    *n_out = o.n;
    return ERR_OK;
}

int members_edit_remove(struct slice text, size_t index, char *out, size_t *n_out)
{
    struct list l;
    struct place gone;
    size_t after, dash;
    int rc = look(text, index, &l);

    if (rc != ERR_OK)
        return rc;
    gone = l.entry;
    if (!l.flow) {
        if (!dash_of(text, l.entry.start, &dash))
            return ERR_INVALID;
        return cut(text, (struct place){line_start(text, dash), line_end(text, l.entry.end)}, out,
                   n_out);
    }
    after = skip_blanks(text, gone.end);
    if (after < text.n && text.p[after] == ',') { /* with its comma, and the line if that is all */
        gone.end = skip_blanks(text, after + 1);
    } else if (index > 0) { /* with the comma before, unless a comment stands between */
        size_t comma = skip_blanks(text, l.before.end);
        if (comma < text.n && text.p[comma] == ',' && skip_blanks(text, comma + 1) == gone.start)
            gone.start = l.before.end;
    }
    after = skip_blanks(text, gone.end);
    if (skip_blanks(text, line_start(text, gone.start)) == gone.start &&
        (after == text.n || strchr("\n\r#", text.p[after]))) {
        gone.start = line_start(text, gone.start);
        gone.end = line_end(text, gone.end);
    }
    return cut(text, gone, out, n_out);
}

/* Lines of the flow style: a comma behind the last entry, the new one on a line of its own. */
static void add_line(struct out *o, struct slice text, const struct list *l, const char *entry)
{
    size_t line = line_start(text, l->entry.start), end = line_end(text, l->entry.end);
    size_t after = skip_blanks(text, l->entry.end);
    bool comma = after < text.n && text.p[after] == ',';

    put(o, text.p, l->entry.end);
    put_text(o, comma ? "" : ",");
    put(o, text.p + l->entry.end, end - l->entry.end);
    put(o, text.p + line, skip_blanks(text, line) - line);
    put_text(o, entry);
    put_text(o, comma ? ",\n" : "\n");
    put(o, text.p + end, text.n - end);
}

int members_edit_add(struct slice text, uint16_t slot, const char *address, char *out,
                     size_t *n_out)
{
    char entry[MEMBERS_EDIT_ROOM / 2];
    struct out o = {out, 0};
    struct list l;
    size_t dash, end;
    int rc = look(text, SIZE_MAX, &l);

    if (rc != ERR_OK)
        return rc;
    if (snprintf(entry, sizeof entry, "{slot: %u, address: \"%s\"}", slot, address) >=
        (int)sizeof entry)
        return ERR_INVALID;
    end = line_end(text, l.entry.end);
    if (!l.flow) {
        if (!dash_of(text, l.entry.start, &dash))
            return ERR_INVALID;
        put(&o, text.p, end);
        put_text(&o, end && text.p[end - 1] == '\n' ? "" : "\n");
        put(&o, text.p + line_start(text, dash), dash - line_start(text, dash));
        put_text(&o, "- ");
        put_text(&o, entry);
        put_text(&o, "\n");
        put(&o, text.p + end, text.n - end);
    } else if (skip_blanks(text, line_start(text, l.entry.start)) == l.entry.start &&
               l.all.end > end) {
        add_line(&o, text, &l, entry);
    } else {
        put(&o, text.p, l.entry.end);
        put_text(&o, ", ");
        put_text(&o, entry);
        put(&o, text.p + l.entry.end, text.n - l.entry.end);
    }
    *n_out = o.n;
    return ERR_OK;
}
