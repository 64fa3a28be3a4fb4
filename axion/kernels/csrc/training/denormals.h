// Numbers below about 1e-38 count as zero as long as this object exists.
//
// Intel's processors take more than a hundred cycles for an operation on such a number, and the gradients of masked
// scores are full of them.
#pragma once

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

namespace axion {

class FlushDenormals {
#if defined(__SSE__)
 public:
  FlushDenormals() : before_(_mm_getcsr()) { _mm_setcsr(before_ | kResults | kOperands); }
  ~FlushDenormals() { _mm_setcsr(before_); }

 private:
  static constexpr unsigned kResults = 0x8000, kOperands = 0x0040;  // the control register's FTZ and DAZ
  unsigned before_;
#endif
};

}  // namespace axion
