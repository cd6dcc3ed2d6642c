/* The example on a bare Cortex-M with a floating-point unit, in an emulator or under a debugger: start-up code, and text and
 * exit code by semihosting. */
#include "workload.h"

#include <stdint.h>

enum { SYS_WRITE0 = 0x04, SYS_EXIT = 0x18, EXIT_SUCCESS_CODE = 0x20026, EXIT_FAILURE_CODE = 0x20023 };

extern uint32_t stack_top, data_start, data_end, data_source, bss_start, bss_end;

void reset(void);

static void semihost(uint32_t operation, uintptr_t argument)
{
    register uint32_t r0 __asm__("r0") = operation;
    register uintptr_t r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
}

void say(const char *text)
{
    semihost(SYS_WRITE0, (uintptr_t)text);
}

static void leave(int failed)
{
    semihost(SYS_EXIT, failed ? EXIT_FAILURE_CODE : EXIT_SUCCESS_CODE);
    for (;;) {
    }
}

static void fault(void)
{
    say("fault\n");
    leave(1);
}

void reset(void)
{
    const uint32_t *source = &data_source;
    for (uint32_t *place = &data_start; place < &data_end; place++)
        *place = *source++;
    for (uint32_t *place = &bss_start; place < &bss_end; place++)
        *place = 0;
    /* Switches the floating-point unit on, before anything uses it. */
    *(volatile uint32_t *)0xe000ed88u |= 0xfu << 20;
    __asm__ volatile("dsb\n isb" : : : "memory");
    leave(run_workloads());
}

typedef void (*handler)(void);

__attribute__((section(".vectors"), used)) static const union {
    const uint32_t *stack;
    handler handler;
} vectors[16] = {
    {.stack = &stack_top}, {.handler = reset}, {.handler = fault}, {.handler = fault}, {.handler = fault},
    {.handler = fault}, {.handler = fault},
};
