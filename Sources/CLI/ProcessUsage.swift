import ApusCPU

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

enum Clock {
  /// Seconds of a clock that only runs forward.
  static func seconds() -> Double { monotonicSeconds() }
}

enum ProcessUsage {
  /// The most memory this process has had resident.
  static func peakMemoryMB() -> Double {
    var usage = rusage()
    #if canImport(Glibc)
      let whose = RUSAGE_SELF.rawValue  // Glibc imports it as an enumeration
    #else
      let whose = RUSAGE_SELF
    #endif
    getrusage(Int32(bitPattern: UInt32(truncatingIfNeeded: whose)), &usage)
    #if canImport(Darwin)
      return Double(usage.ru_maxrss) / 1024 / 1024  // in bytes there, in KiB elsewhere
    #else
      return Double(usage.ru_maxrss) / 1024
    #endif
  }

  /// Processor seconds: of everybody (0 where the system does not tell), and of this process.
  static func busySeconds() -> (all: Double, own: Double) {
    var now = timespec()
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now)
    let own = Double(now.tv_sec) + Double(now.tv_nsec) * 1e-9
    #if os(Linux)
      guard let file = fopen("/proc/stat", "r") else { return (0, own) }
      defer { fclose(file) }
      var buffer = [CChar](repeating: 0, count: 512)
      guard fgets(&buffer, 512, file) != nil else { return (0, own) }
      let line = String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
      let ticks = line.split(separator: " ").dropFirst().compactMap { Double($0.filter(\.isNumber)) }
      guard ticks.count >= 5 else { return (0, own) }
      return ((ticks.reduce(0, +) - ticks[3] - ticks[4]) / Double(sysconf(Int32(_SC_CLK_TCK))), own)
    #else
      return (0, own)
    #endif
  }

  /// Whether standard output is a terminal.
  static var isTerminal: Bool { isatty(1) == 1 }
}
