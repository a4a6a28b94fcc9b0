#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

func cosine(_ angle: Double) -> Double { cos(angle) }

/// Sends what was printed to where it goes now.
func flush() { fflush(nil) }
