#include <stdio.h>
#include <sum.h>

int main(void) {
    int values[] = {1, 2, 3};
    printf("%ld\n", sum(values, 3));
    return sum(values, 3) != 6;
}
