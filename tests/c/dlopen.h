/* The threads of OpenVINO load a library in a way that AddressSanitizer does not allow: for one program, with
   _GNU_SOURCE defined. */

#include <dlfcn.h>

#ifdef __SANITIZE_ADDRESS__
void *dlopen(const char *name, int mode)
{
    void *(*next)(const char *, int);
    *(void **)&next = dlsym(RTLD_NEXT, "dlopen");
    return next(name, mode & ~RTLD_DEEPBIND);
}
#endif
