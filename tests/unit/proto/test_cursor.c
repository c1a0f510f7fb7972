#include <criterion/criterion.h>
#include <string.h>

#include "proto/cursor.h"

static const uint8_t bytes[] = {0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08,
                                0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8};

Test(reader, integers_are_big_endian)
{
    struct reader r = reader_of(bytes, sizeof bytes);

    cr_expect(read_u8(&r) == 0x01);
    cr_expect(read_u16(&r) == 0x0203);
    cr_expect(read_u32(&r) == 0x04050607);
    cr_expect(read_u64(&r) == UINT64_C(0x08f1f2f3f4f5f6f7));
    cr_expect(r.left == 1 && !r.bad);
    cr_expect(read_u8(&r) == 0xf8);
    cr_expect(r.left == 0 && !r.bad, "reading all is no error");
}

Test(reader, high_bits_survive)
{
    struct reader r = reader_of(bytes + 8, 8);

    cr_expect(read_u32(&r) == 0xf1f2f3f4);
    r = reader_of(bytes + 8, 8);
    cr_expect(read_u64(&r) == UINT64_C(0xf1f2f3f4f5f6f7f8));
}

/* Each read with one byte too few: zero, bad, and no read after it succeeds. */
Test(reader, the_first_error_sticks)
{
    struct reader r = reader_of(bytes, 0);
    cr_expect(read_u8(&r) == 0 && r.bad);
    r = reader_of(bytes, 1);
    cr_expect(read_u16(&r) == 0 && r.bad);
    cr_expect(read_u8(&r) == 0 && r.left == 0, "the byte that was left is not given out");
    r = reader_of(bytes, 3);
    cr_expect(read_u32(&r) == 0 && r.bad);
    r = reader_of(bytes, 7);
    (void)read_u64(&r);
    cr_expect(r.bad);
}

Test(reader, slices_point_into_the_bytes)
{
    struct reader r = reader_of(bytes, 8);
    struct slice s = read_slice(&r, 3);

    cr_expect(s.p == bytes && s.n == 3 && r.left == 5);
    s = read_slice(&r, 0);
    cr_expect(s.n == 0 && !r.bad);
    s = read_slice(&r, 6);
    cr_expect(s.p == NULL && s.n == 0 && r.bad);
}

Test(reader, a_copy_is_zero_on_error)
{
    struct reader r = reader_of(bytes, 4);
    uint8_t out[5] = {9, 9, 9, 9, 9};

    read_bytes(&r, out, 4);
    cr_expect_arr_eq(out, bytes, 4);
    memset(out, 9, sizeof out);
    read_bytes(&r, out, 1);
    cr_expect(out[0] == 0 && out[1] == 9 && r.bad);
}

Test(reader, a_sub_reader_cannot_leave_its_part)
{
    struct reader r = reader_of(bytes, 8);
    struct reader sub = read_sub(&r, 2);

    cr_expect(read_u16(&sub) == 0x0102);
    (void)read_u8(&sub);
    cr_expect(sub.bad && !r.bad, "its error is its own");
    cr_expect(read_u8(&r) == 3);
    sub = read_sub(&r, 6);
    cr_expect(sub.bad && r.bad && sub.left == 0);
}

Test(reader, skipping)
{
    struct reader r = reader_of(bytes, 4);

    read_skip(&r, 3);
    cr_expect(read_u8(&r) == 4);
    read_skip(&r, 1);
    cr_expect(r.bad);
}

Test(reader, no_bytes_at_all)
{
    struct reader r = reader_of(NULL, 0);
    uint8_t none[1];

    read_bytes(&r, none, 0);
    cr_expect(read_slice(&r, 0).n == 0 && !r.bad);
    cr_expect(read_u8(&r) == 0 && r.bad);
}

Test(reader, huge_lengths_do_not_wrap)
{
    struct reader r = reader_of(bytes, 8);

    cr_expect(read_slice(&r, SIZE_MAX).n == 0 && r.bad);
}

Test(writer, what_is_written_reads_back)
{
    uint8_t out[32];
    struct writer w = writer_of(out, sizeof out);
    struct reader r;

    write_u8(&w, 0xa1);
    write_u16(&w, 0xb2c3);
    write_u32(&w, 0xd4e5f607);
    write_u64(&w, UINT64_C(0x8090a0b0c0d0e0f0));
    write_bytes(&w, "xyz", 3);
    write_zeros(&w, 2);
    cr_assert(!w.bad && w.n == 20);
    r = reader_of(out, w.n);
    cr_expect(read_u8(&r) == 0xa1);
    cr_expect(read_u16(&r) == 0xb2c3);
    cr_expect(read_u32(&r) == 0xd4e5f607);
    cr_expect(read_u64(&r) == UINT64_C(0x8090a0b0c0d0e0f0));
    cr_expect_arr_eq(read_slice(&r, 3).p, "xyz", 3);
    cr_expect(read_u16(&r) == 0 && r.left == 0);
}

Test(writer, it_never_passes_its_end)
{
    uint8_t out[6] = {9, 9, 9, 9, 9, 9};
    struct writer w = writer_of(out, 5);

    write_u32(&w, 1);
    write_u16(&w, 2);
    cr_expect(w.bad && w.n == 4);
    write_u8(&w, 3);
    cr_expect(w.n == 4 && out[4] == 9 && out[5] == 9, "nothing after the first error");
}

/* A u64 that does not fit leaves half of it at most; the caller sees `bad`. */
Test(writer, half_a_u64_is_bad)
{
    uint8_t out[8] = {0};
    struct writer w = writer_of(out, 7);

    write_u64(&w, 1);
    cr_expect(w.bad && out[7] == 0);
}

Test(writer, patching_only_what_was_written)
{
    uint8_t out[8] = {0};
    struct writer w = writer_of(out, sizeof out);

    write_u32(&w, 0);
    write_u8_at(&w, 3, 7);
    write_u16_at(&w, 0, 0x0102);
    cr_expect(!w.bad && w.n == 4 && out[0] == 1 && out[1] == 2 && out[3] == 7);
    write_u32_at(&w, 0, 0x0a0b0c0d);
    cr_expect(!w.bad && out[3] == 0x0d);
    write_u32_at(&w, 1, 1);
    cr_expect(w.bad && out[4] == 0);
}

Test(writer, patching_far_away_does_not_wrap)
{
    uint8_t out[8] = {0};
    struct writer w = writer_of(out, sizeof out);

    write_u32(&w, 0);
    write_u16_at(&w, SIZE_MAX, 1);
    cr_expect(w.bad);
}

Test(writer, huge_lengths_do_not_wrap)
{
    uint8_t out[8] = {0};
    struct writer w = writer_of(out, sizeof out);

    write_u8(&w, 1);
    write_zeros(&w, SIZE_MAX);
    cr_expect(w.bad && w.n == 1);
}
