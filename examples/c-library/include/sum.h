#ifndef SUM_H
#define SUM_H
long sum(const int *values, int count);
#endif
