#include <pwd.h>
#include <stdio.h>
#include <unistd.h>

int main(void) {
    struct passwd *user = getpwuid(getuid());
    printf("%s %d\n", user ? user->pw_name : "?", (int)getuid());
    return 0;
}
