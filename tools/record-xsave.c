/*
 * Runs FXSAVE and the XSAVE family on the real processor.
 *
 * Standard input: cases of 5568 bytes, all little-endian:
 *   0  area to restore from (2752)   2752  area to save into (2752)
 *   5504  restore mask  5508  save mask  5512  kind: 0 XSAVE 1 XSAVEOPT 2 XSAVEC 3 FXSAVE  5516  with REX.W
 * Standard output: for each case the area saved into (2752).
 */
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#define AREA 2752

struct input {
  uint8_t from[AREA], to[AREA];
  uint32_t restore, save, kind, wide, unused[12];
};

static struct input in;
static uint8_t own[16384] __attribute__((aligned(64)));
static uint8_t initial[4096] __attribute__((aligned(64)));
static uint8_t from[4096] __attribute__((aligned(64)));
static uint8_t to[4096] __attribute__((aligned(64)));

static int take(void *data, size_t size) {
  for (size_t got = 0; got < size;) {
    ssize_t n = read(0, (char *)data + got, size - got);
    if (n <= 0) return 0;
    got += n;
  }
  return 1;
}

int main(void) {
  while (take(&in, sizeof in)) {
    memcpy(from, in.from, AREA);
    memcpy(to, in.to, AREA);
    asm volatile("xsave64 (%0)" ::"r"(own), "a"(-1), "d"(-1) : "memory");
    asm volatile(
        "mov $-1, %%eax; mov $-1, %%edx; xrstor64 (%[initial])\n"
        "mov %[restore], %%eax; xor %%edx, %%edx\n"
        "cmp $0, %[wide]; je 1f; xrstor64 (%[from]); jmp 2f; 1: xrstor (%[from]); 2:\n"
        "mov %[save], %%eax; xor %%edx, %%edx\n"
        "cmp $0, %[wide]; je 6f\n"
        "cmp $0, %[kind]; jne 3f; xsave64 (%[to]); jmp 9f\n"
        "3: cmp $1, %[kind]; jne 4f; xsaveopt64 (%[to]); jmp 9f\n"
        "4: cmp $2, %[kind]; jne 5f; xsavec64 (%[to]); jmp 9f\n"
        "5: fxsave64 (%[to]); jmp 9f\n"
        "6: cmp $0, %[kind]; jne 3f; xsave (%[to]); jmp 9f\n"
        "3: cmp $1, %[kind]; jne 4f; xsaveopt (%[to]); jmp 9f\n"
        "4: cmp $2, %[kind]; jne 5f; xsavec (%[to]); jmp 9f\n"
        "5: fxsave (%[to])\n"
        "9: mov $-1, %%eax; mov $-1, %%edx; xrstor64 (%[own])\n" ::[initial] "r"(initial),
        [from] "r"(from), [to] "r"(to), [own] "r"(own), [restore] "r"(in.restore), [save] "r"(in.save),
        [kind] "r"(in.kind), [wide] "r"(in.wide)
        : "eax", "edx", "memory", "cc");
    if (write(1, to, AREA) != AREA) return 1;
  }
  return 0;
}
