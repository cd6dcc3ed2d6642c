/* A QEMU plugin that counts executed instructions, by the address of the translated block they are in.
 *
 *     cc -O2 -shared -fPIC -fvisibility=hidden -o count.so firmware/count.c
 *     qemu-system-arm … -plugin ./count.so
 *
 * At the end it writes a line `ADDRESS COUNT` for each block to stderr; scripts/firmware.py sums them by
 * function. Debian ships no qemu-plugin.h, so what is used of version 1 of the interface is declared here. One core only. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, int operation, void *, uint64_t);
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, void *), void *);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;

enum { ADD_U64 = 0 };

struct block {
    uint64_t address;
    uint64_t count;
    struct block *next;
};

static struct block *blocks;

/* A block that is translated again gets an entry of its own; the reader adds them up. */
static void on_translation(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    (void)id;
    struct block *block = calloc(1, sizeof *block);
    if (!block)
        abort();
    block->address = qemu_plugin_tb_vaddr(tb);
    block->next = blocks;
    blocks = block;
    qemu_plugin_register_vcpu_tb_exec_inline(tb, ADD_U64, &block->count, qemu_plugin_tb_n_insns(tb));
}

static void on_exit_of_qemu(qemu_plugin_id_t id, void *data)
{
    (void)id;
    (void)data;
    for (const struct block *block = blocks; block; block = block->next)
        fprintf(stderr, "%" PRIx64 " %" PRIu64 "\n", block->address, block->count);
}

__attribute__((visibility("default"))) int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv)
{
    (void)info;
    (void)argc;
    (void)argv;
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
    qemu_plugin_register_atexit_cb(id, on_exit_of_qemu, NULL);
    return 0;
}
