/* A QEMU plugin that counts executed instructions, by the address of the translated block they are in, and between
 * calls of one function: those from its first call to its second are a span, those from its third to its fourth the next.
 *
 *     cc -O2 -shared -fPIC -fvisibility=hidden -o count.so firmware/count.c
 *     qemu-system-arm … -plugin ./count.so,boundary=0x1234
 *
 * At the end it writes to stderr a line `ADDRESS COUNT` for each block and a line `span COUNT` for each span, in their order;
 * scripts/firmware.py sums them up. Debian ships no qemu-plugin.h, so what is used of the interface is declared here: no
 * more than what all its versions have. QEMU before 9.0 takes version 1, later ones -DPLUGIN_VERSION=2. One core only. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef PLUGIN_VERSION
#define PLUGIN_VERSION 1
#endif

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
enum qemu_plugin_cb_flags { QEMU_PLUGIN_CB_NO_REGS };
typedef void on_execution_cb(unsigned int core, void *data);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, on_execution_cb *, enum qemu_plugin_cb_flags, void *);
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, void *), void *);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *);

__attribute__((visibility("default"))) int qemu_plugin_version = PLUGIN_VERSION;

struct block {
    uint64_t address;
    uint64_t instructions;
    uint64_t executions;
    struct block *next;
};

enum { SPANS = 4096 };

static struct block *blocks;
/* No instruction has an odd address. */
static uint64_t boundary = 1;
static uint64_t executed;
/* A span's beginning, its end, the next one's beginning, …: what was executed until then, with the boundary's block at a
 * beginning, without it at an end. */
static uint64_t edges[2 * SPANS];
static size_t edges_met;

static void on_execution(unsigned int core, void *data)
{
    (void)core;
    struct block *block = data;
    uint64_t before = executed;
    executed += block->instructions;
    block->executions += 1;
    if (block->address == boundary) {
        if (edges_met == 2 * SPANS)
            abort();
        edges[edges_met] = edges_met % 2 ? before : executed;
        edges_met += 1;
    }
}

/* A block that is translated again gets an entry of its own; the reader adds them up. */
static void on_translation(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    (void)id;
    struct block *block = calloc(1, sizeof *block);
    if (!block)
        abort();
    block->address = qemu_plugin_tb_vaddr(tb);
    block->instructions = qemu_plugin_tb_n_insns(tb);
    block->next = blocks;
    blocks = block;
    qemu_plugin_register_vcpu_tb_exec_cb(tb, on_execution, QEMU_PLUGIN_CB_NO_REGS, block);
}

static void on_exit_of_qemu(qemu_plugin_id_t id, void *data)
{
    (void)id;
    (void)data;
    for (const struct block *block = blocks; block; block = block->next)
        fprintf(stderr, "%" PRIx64 " %" PRIu64 "\n", block->address, block->instructions * block->executions);
    for (size_t i = 0; i + 1 < edges_met; i += 2)
        fprintf(stderr, "span %" PRIu64 "\n", edges[i + 1] - edges[i]);
}

__attribute__((visibility("default"))) int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv)
{
    (void)info;
    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], "boundary=", 9) != 0)
            return -1;
        boundary = strtoull(argv[i] + 9, NULL, 0);
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
    qemu_plugin_register_atexit_cb(id, on_exit_of_qemu, NULL);
    return 0;
}
