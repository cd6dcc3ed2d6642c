/* What the example computes, and what it needs of the machine it runs on. */
#ifndef WORKLOAD_H
#define WORKLOAD_H

#ifdef __cplusplus
extern "C" {
#endif

/* Writes a text to wherever the machine has room for it. */
void say(const char *text);

/* Prints `WORKLOAD DIGEST` for each workload; 0 when nothing was refused that should not be. */
int run_workloads(void);

#ifdef __cplusplus
}
#endif

#endif
