// What the C++ library needs where there are no exceptions: throwing one ends the program, which JavaScript reports.
#include <cstddef>

extern "C" {

void* __cxa_allocate_exception(size_t) noexcept { __builtin_trap(); }

void __cxa_throw(void*, void*, void (*)(void*)) { __builtin_trap(); }

}  // extern "C"
