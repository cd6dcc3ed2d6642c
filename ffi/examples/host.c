/* The example on an operating system. */
#include "workload.h"

#include <stdio.h>

void say(const char *text)
{
    fputs(text, stdout);
}

int main(void)
{
    return run_workloads();
}
