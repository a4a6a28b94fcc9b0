#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

// Functions of numbers, apart from those of tensors with the same names.

/// cos(π x).
func cosine(_ x: Double) -> Double { cos(.pi * x) }
func power(_ x: Double, _ y: Double) -> Double { pow(x, y) }
func logarithm(_ x: Double) -> Double { log(x) }
