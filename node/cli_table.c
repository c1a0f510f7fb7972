/* JSON as people read it. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "node/cli.h"

static const json_t *look_up(const json_t *item, const char *key)
{
    const char *dot = strchr(key, '.');
    char first[64];

    if (!dot)
        return json_object_get(item, key);
    if ((size_t)(dot - key) >= sizeof first)
        return NULL;
    memcpy(first, key, (size_t)(dot - key));
    first[dot - key] = 0;
    return json_object_get(json_object_get(item, first), dot + 1);
}

/* "a, b"; the items' own texts. */
static char *join(const json_t *array)
{
    char *all = strdup("");

    for (size_t i = 0; all && i < json_array_size(array); i++) {
        char *cell = cli_cell(json_array_get(array, i)), *longer = NULL;
        if (cell && asprintf(&longer, "%s%s%s", all, i ? ", " : "", cell) < 0)
            longer = NULL;
        free(cell);
        free(all);
        all = longer;
    }
    return all;
}

static char *text_of(const json_t *value)
{
    char *text = NULL;

    switch (value ? json_typeof(value) : JSON_NULL) {
    case JSON_STRING:
        return strdup(json_string_value(value));
    case JSON_INTEGER:
        return asprintf(&text, "%" JSON_INTEGER_FORMAT, json_integer_value(value)) < 0 ? NULL
                                                                                       : text;
    case JSON_REAL:
        return asprintf(&text, "%g", json_real_value(value)) < 0 ? NULL : text;
    case JSON_TRUE:
        return strdup("yes");
    case JSON_FALSE:
        return strdup("no");
    case JSON_ARRAY:
        return join(value);
    case JSON_OBJECT:
        return json_dumps(value, JSON_COMPACT);
    case JSON_NULL:
        break;
    }
    return strdup("-");
}

char *cli_cell(const json_t *value)
{
    char *text = text_of(value);

    /* A node's answer may quote what a peer sent: nothing of it reaches the terminal raw. */
    for (char *c = text; c && *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = '?';
    return text;
}

static char *cell_of(const struct cli_column *column, const json_t *item)
{
    const json_t *value = look_up(item, column->key);
    char *text;

    if (!value && column->also)
        value = look_up(item, column->also);
    text = cli_cell(value);
    if (text && column->max && strlen(text) > (size_t)column->max)
        text[column->max] = 0;
    return text;
}

static void print_row(FILE *out, char *const *cells, const int *widths, size_t n)
{
    for (size_t c = 0; c < n; c++) {
        const char *text = cells[c] ? cells[c] : "?";
        if (c + 1 < n)
            fprintf(out, "%-*s  ", widths[c], text);
        else
            fprintf(out, "%s\n", text);
    }
}

void cli_print_table(FILE *out, const struct cli_column *columns, size_t n, const json_t *items)
{
    size_t rows = json_array_size(items) + 1;
    char **cells = calloc(rows * n, sizeof *cells);
    int *widths = calloc(n, sizeof *widths);

    if (cells && widths) {
        for (size_t r = 0; r < rows; r++) {
            for (size_t c = 0; c < n; c++) {
                char *text = r ? cell_of(&columns[c], json_array_get(items, r - 1))
                               : strdup(columns[c].title);
                int width = text ? (int)strlen(text) : 1;
                cells[r * n + c] = text;
                widths[c] = width > widths[c] ? width : widths[c];
            }
        }
        for (size_t r = 0; r < rows; r++)
            print_row(out, cells + r * n, widths, n);
    }
    for (size_t i = 0; cells && i < rows * n; i++)
        free(cells[i]);
    free(cells);
    free(widths);
}

int cli_print_json(const json_t *value)
{
    if (!value || json_dumpf(value, stdout, JSON_INDENT(2)) != 0 || putchar('\n') == EOF ||
        fflush(stdout) != 0) {
        fputs("anysa: cannot write to stdout\n", stderr);
        return CLI_FAILED;
    }
    return CLI_FINE;
}
