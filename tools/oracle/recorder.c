// Executes instructions on the real processor: frames on stdin, the same frames with the results on stdout.
// Layout of a frame: frame.ts. Code runs at CODE, its memory operand lies at DATA; a trap ends a frame with its number.
#define _GNU_SOURCE
#include <cpuid.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#define CODE 0x200000
#define DATA 0x210000
#define MEMORY 256

struct frame {
  uint8_t code[16];
  uint32_t length;
  int32_t trap; // -1: none
  uint64_t rax, rcx, rdx, rbx, rsi, rdi, rbp, flags;
  uint8_t memory[MEMORY];
  uint8_t fx[512];
  uint8_t ymm[256]; // upper halves
} __attribute__((aligned(16)));
#define YMM_AT 576 // in the XSAVE area of a signal's context

static struct frame frame __attribute__((aligned(64)));
static uint8_t fx[512] __attribute__((aligned(64)));
static sigjmp_buf out;
static const uint64_t entry __attribute__((used)) = CODE;

static void on_signal(int number, siginfo_t *info, void *context) {
  (void)number, (void)info;
  ucontext_t *u = context;
  greg_t *r = u->uc_mcontext.gregs;
  frame.trap = (int32_t)r[REG_TRAPNO];
  frame.rax = r[REG_RAX], frame.rcx = r[REG_RCX], frame.rdx = r[REG_RDX], frame.rbx = r[REG_RBX];
  frame.rsi = r[REG_RSI], frame.rdi = r[REG_RDI], frame.rbp = r[REG_RBP], frame.flags = r[REG_EFL];
  memcpy(fx, u->uc_mcontext.fpregs, 512);
  const uint8_t *area = (const uint8_t *)u->uc_mcontext.fpregs;
  memset(frame.ymm, 0, 256);
  if (area[512] & 4) memcpy(frame.ymm, area + YMM_AT, 256);
  siglongjmp(out, 1);
}

static __attribute__((noinline)) void execute(struct frame *f) {
  __asm__ volatile(
      "push %%rbp\n push %%rbx\n push %0\n"
      "fxrstor64 %1\n"
      "vinsertf128 $1, 856(%0), %%ymm0, %%ymm0\n"
      "vinsertf128 $1, 872(%0), %%ymm1, %%ymm1\n"
      "vinsertf128 $1, 888(%0), %%ymm2, %%ymm2\n"
      "vinsertf128 $1, 904(%0), %%ymm3, %%ymm3\n"
      "vinsertf128 $1, 920(%0), %%ymm4, %%ymm4\n"
      "vinsertf128 $1, 936(%0), %%ymm5, %%ymm5\n"
      "vinsertf128 $1, 952(%0), %%ymm6, %%ymm6\n"
      "vinsertf128 $1, 968(%0), %%ymm7, %%ymm7\n"
      "vinsertf128 $1, 984(%0), %%ymm8, %%ymm8\n"
      "vinsertf128 $1, 1000(%0), %%ymm9, %%ymm9\n"
      "vinsertf128 $1, 1016(%0), %%ymm10, %%ymm10\n"
      "vinsertf128 $1, 1032(%0), %%ymm11, %%ymm11\n"
      "vinsertf128 $1, 1048(%0), %%ymm12, %%ymm12\n"
      "vinsertf128 $1, 1064(%0), %%ymm13, %%ymm13\n"
      "vinsertf128 $1, 1080(%0), %%ymm14, %%ymm14\n"
      "vinsertf128 $1, 1096(%0), %%ymm15, %%ymm15\n"
      "push 80(%0)\n popfq\n"
      "mov 24(%0), %%rax\n mov 32(%0), %%rcx\n mov 40(%0), %%rdx\n mov 48(%0), %%rbx\n"
      "mov 56(%0), %%rsi\n mov 72(%0), %%rbp\n mov 64(%0), %%rdi\n"
      "call *entry(%%rip)\n"
      "push %%rdi\n mov 8(%%rsp), %%rdi\n" // rdi: the frame
      "mov %%rax, 24(%%rdi)\n mov %%rcx, 32(%%rdi)\n mov %%rdx, 40(%%rdi)\n mov %%rbx, 48(%%rdi)\n"
      "mov %%rsi, 56(%%rdi)\n mov %%rbp, 72(%%rdi)\n"
      "pushfq\n pop 80(%%rdi)\n pop 64(%%rdi)\n"
      "vextractf128 $1, %%ymm0, 856(%%rdi)\n"
      "vextractf128 $1, %%ymm1, 872(%%rdi)\n"
      "vextractf128 $1, %%ymm2, 888(%%rdi)\n"
      "vextractf128 $1, %%ymm3, 904(%%rdi)\n"
      "vextractf128 $1, %%ymm4, 920(%%rdi)\n"
      "vextractf128 $1, %%ymm5, 936(%%rdi)\n"
      "vextractf128 $1, %%ymm6, 952(%%rdi)\n"
      "vextractf128 $1, %%ymm7, 968(%%rdi)\n"
      "vextractf128 $1, %%ymm8, 984(%%rdi)\n"
      "vextractf128 $1, %%ymm9, 1000(%%rdi)\n"
      "vextractf128 $1, %%ymm10, 1016(%%rdi)\n"
      "vextractf128 $1, %%ymm11, 1032(%%rdi)\n"
      "vextractf128 $1, %%ymm12, 1048(%%rdi)\n"
      "vextractf128 $1, %%ymm13, 1064(%%rdi)\n"
      "vextractf128 $1, %%ymm14, 1080(%%rdi)\n"
      "vextractf128 $1, %%ymm15, 1096(%%rdi)\n"
      "fxsave64 %1\n fninit\n vzeroupper\n"
      "pop %0\n pop %%rbx\n pop %%rbp\n"
      "push $0x202\n popfq\n"
      :
      : "D"(f), "m"(fx)
      : "rax", "rcx", "rdx", "rsi", "r8", "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6",
        "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
}

// Whether this is a processor of the kind that the emulated one follows where architecture leaves a choice.
static int is_model(void) {
  unsigned a, b, c, d;
  if (!__get_cpuid(0, &a, &b, &c, &d) || b != signature_INTEL_ebx || c != signature_INTEL_ecx) return 0;
  const unsigned sse4_2 = 1u << 20, aes = 1u << 25, pclmulqdq = 1u << 1;
  const unsigned fma = 1u << 12, avx = 1u << 28, f16c = 1u << 29;
  const unsigned wanted = sse4_2 | aes | pclmulqdq | fma | avx | f16c;
  if (!__get_cpuid(1, &a, &b, &c, &d) || (c & wanted) != wanted) return 0;
  const unsigned fdp_excptn_only = 1u << 6, sha = 1u << 29;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & (fdp_excptn_only | sha)) == (fdp_excptn_only | sha);
}

int main(void) {
  if (!is_model()) return 2;
  uint8_t *code = mmap((void *)CODE, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  uint8_t *data = mmap((void *)DATA, 4096, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  if (code != (void *)CODE || data != (void *)DATA) return perror("mmap"), 1;
  static uint8_t stack[65536] __attribute__((aligned(64)));
  stack_t alternative = {.ss_sp = stack, .ss_size = sizeof stack};
  sigaltstack(&alternative, NULL);
  struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
  const int signals[] = {SIGFPE, SIGSEGV, SIGILL, SIGBUS};
  for (int i = 0; i < 4; i++) sigaction(signals[i], &action, NULL);
  static char buffer[1 << 20], output[1 << 20];
  setvbuf(stdin, buffer, _IOFBF, sizeof buffer);
  setvbuf(stdout, output, _IOFBF, sizeof output);
  while (fread(&frame, sizeof frame, 1, stdin) == 1) {
    memcpy(code, frame.code, 16);
    code[frame.length] = 0xc3;
    memcpy(data, frame.memory, MEMORY);
    memcpy(fx, frame.fx, 512);
    frame.trap = -1;
    if (sigsetjmp(out, 0) == 0) execute(&frame);
    const uint32_t mxcsr = 0x1f80;
    __asm__ volatile("fninit\n ldmxcsr %0" : : "m"(mxcsr));
    memcpy(frame.memory, data, MEMORY);
    memcpy(frame.fx, fx, 512);
    if (fwrite(&frame, sizeof frame, 1, stdout) != 1) return 1;
  }
  return 0;
}
