/*
 * Executes single instructions on the real processor, in user mode: cases on standard input, results on standard output
 * (test/oracle/native-format.ts has both layouts). Each case starts from a given state and ends at INT3 or a fault.
 *
 * A case is started by changing the context that a signal handler returns to; the next signal ends it.
 */
#define _GNU_SOURCE
#include <asm/prctl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define CODE 0x100000
#define CODE_SIZE 0x10000
#define DATA 0x200000
#define DATA_SIZE 0x3000 /* the last page is read-only */
#define PAGE 0x1000

struct input {
  uint64_t gpr[16], flags, rip;
  uint32_t seed, mxcsr, length, top; /* of top, bit 8: 32-bit code */
  uint64_t memory_at;
  uint8_t memory[16], code[16], xmm[256], fpr[128];
};
struct output {
  uint64_t gpr[16], flags, rip;
  uint32_t trap, error;
  uint64_t cr2;
  uint32_t hash, mxcsr, status, tag;
  uint8_t xmm[256], fpr[128], ymm[256];
};

/* The component's place in the XSAVE area. */
#define YMM_AT 576

static const int order[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                              REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
static struct input in;
static struct output out;
static gregset_t home;
static uint64_t home_fp[2048];
static int running;
static uint64_t home_fs;
static uint8_t *const code = (uint8_t *)CODE;
static uint32_t *const data = (uint32_t *)DATA;

static void prepare(void) {
  mprotect((void *)DATA, DATA_SIZE, PROT_READ | PROT_WRITE);
  for (uint32_t i = 0; i < DATA_SIZE / 4; i++) {
    uint32_t x = (in.seed + i) * 0x9e3779b1u;
    data[i] = x ^ (x >> 15);
  }
  if (in.memory_at != 0) memcpy((void *)in.memory_at, in.memory, 16);
  mprotect((void *)(DATA + DATA_SIZE - PAGE), PAGE, PROT_READ);
  memcpy((void *)in.rip, in.code, in.length);
}

static void collect(const greg_t *regs, const struct _libc_fpstate *fp) {
  for (int i = 0; i < 16; i++) out.gpr[i] = regs[order[i]];
  out.flags = regs[REG_EFL];
  out.rip = regs[REG_RIP];
  out.trap = regs[REG_TRAPNO];
  out.error = regs[REG_ERR];
  out.cr2 = out.trap == 14 ? regs[REG_CR2] : 0;
  uint32_t h = 0x811c9dc5;
  for (uint32_t i = 0; i < DATA_SIZE / 4; i++) h = ((h << 5) | (h >> 27)) * 0x01000193u ^ data[i];
  out.hash = h;
  out.mxcsr = fp->mxcsr;
  out.status = fp->swd;
  out.tag = fp->ftw;
  memcpy(out.xmm, fp->_xmm, 256);
  memset(out.ymm, 0, 256);
  if (((uint64_t *)fp)[64] & 4) memcpy(out.ymm, (uint8_t *)fp + YMM_AT, 256);
  int top = (fp->swd >> 11) & 7;
  for (int i = 0; i < 8; i++) {
    memset(out.fpr + i * 16, 0, 16);
    memcpy(out.fpr + i * 16, &fp->_st[(i - top) & 7], 10);
  }
}

static void on_signal(int sig, siginfo_t *info, void *context) {
  (void)sig, (void)info;
  /* WRFSBASE may have moved what the C library keeps of the thread. */
  syscall(SYS_arch_prctl, ARCH_SET_FS, home_fs);
  /* NT and ID are not part of the context that the handler returns to. */
  __asm__ volatile("pushfq\n andq $~0x204000, (%%rsp)\n popfq" ::: "memory", "cc");
  ucontext_t *u = context;
  greg_t *regs = u->uc_mcontext.gregs;
  struct _libc_fpstate *fp = u->uc_mcontext.fpregs;
  if (!running) {
    memcpy(home, regs, sizeof home);
    memcpy(home_fp, fp, 512);
  } else {
    memset(code + (in.rip - CODE), 0xcc, in.length);
    collect(regs, fp);
    fwrite(&out, sizeof out, 1, stdout);
  }
  if (fread(&in, sizeof in, 1, stdin) != 1) {
    memcpy(regs, home, sizeof home);
    memcpy(fp, home_fp, 512);
    running = 0;
    return;
  }
  running = 1;
  prepare();
  for (int i = 0; i < 16; i++) regs[order[i]] = in.gpr[i];
  regs[REG_EFL] = in.flags;
  regs[REG_RIP] = in.rip;
  /* Linux's flat code segments. */
  regs[REG_CSGSFS] = (regs[REG_CSGSFS] & ~0xffffL) | (in.top & 0x100 ? 0x23 : 0x33);
  in.top &= 7;
  fp->cwd = 0x37f;
  fp->swd = in.top << 11;
  fp->ftw = 0;
  fp->mxcsr = in.mxcsr;
  memcpy(fp->_xmm, in.xmm, 256);
  for (int i = 0; i < 8; i++) memcpy(&fp->_st[(i - in.top) & 7], in.fpr + i * 16, 10);
  for (int i = 0; i < 256; i++) ((uint8_t *)fp)[YMM_AT + i] = in.xmm[i ^ 8];
  ((uint64_t *)fp)[64] |= 7; /* XSTATE_BV: x87, SSE and AVX are not in their initial state */
}

int main(void) {
  void *fixed[2] = {
      mmap((void *)CODE, CODE_SIZE, 7, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0),
      mmap((void *)DATA, DATA_SIZE, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0),
  };
  if (fixed[0] != (void *)CODE || fixed[1] != (void *)DATA) return 1;
  memset(code, 0xcc, CODE_SIZE);
  syscall(SYS_arch_prctl, ARCH_GET_FS, &home_fs);
  static char in_buffer[1 << 16], out_buffer[1 << 16];
  setvbuf(stdin, in_buffer, _IOFBF, sizeof in_buffer);
  setvbuf(stdout, out_buffer, _IOFBF, sizeof out_buffer);
  stack_t alt = {.ss_sp = malloc(1 << 18), .ss_size = 1 << 18};
  sigaltstack(&alt, 0);
  struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
  int signals[] = {SIGTRAP, SIGFPE, SIGSEGV, SIGILL, SIGBUS};
  for (int i = 0; i < 5; i++) sigaction(signals[i], &action, 0);
  /* 32-bit code needs them; 64-bit processes start with null selectors. */
  __asm__ volatile("mov %0, %%ds\n mov %0, %%es" ::"r"(0x2b));
  __asm__ volatile("int3" ::: "memory", "cc");
  fflush(stdout);
  return 0;
}
