#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// Microseconds since 1970.
func wallMicroseconds() -> Int {
  var now = timespec()
  clock_gettime(CLOCK_REALTIME, &now)
  return Int(now.tv_sec) * 1_000_000 + Int(now.tv_nsec) / 1_000
}

/// What the system says of this process; what it does not tell is nil.
struct ProcessMetrics: Sendable {
  var residentBytes: Int?
  var virtualBytes: Int?
  var cpuSeconds: Double
  var openFiles: Int?
  var maxFiles: Int?
  var threads: Int?
  /// Seconds since 1970.
  var started: Double?
  /// Of the machine: all memory and what is free for use.
  var machineBytes: Int?
  var machineAvailableBytes: Int?

  static func now() -> ProcessMetrics {
    var cpu = timespec()
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu)
    var metrics = ProcessMetrics(cpuSeconds: Double(cpu.tv_sec) + Double(cpu.tv_nsec) * 1e-9)
    var limit = rlimit()
    #if canImport(Glibc)
      let files = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
    #else
      let files = RLIMIT_NOFILE
    #endif
    if getrlimit(files, &limit) == 0 { metrics.maxFiles = Int(clamping: limit.rlim_cur) }
    #if os(Linux)
      metrics.readProc()
    #endif
    return metrics
  }

  private mutating func readProc() {
    let page = sysconf(Int32(_SC_PAGESIZE))
    // The name, in parentheses, may have spaces and parentheses: fields are counted from the last one.
    if let stat = text("/proc/self/stat"), let end = stat.lastIndex(of: ")") {
      let fields = stat[stat.index(after: end)...].split(separator: " ")
      if fields.count > 21 {
        threads = Int(fields[17])
        virtualBytes = Int(fields[20])
        residentBytes = Int(fields[21]).map { $0 * page }
        let hertz = Double(sysconf(Int32(_SC_CLK_TCK)))
        if let ticks = Double(fields[19]), let boot = bootTime(), hertz > 0 { started = boot + ticks / hertz }
      }
    }
    if let folder = opendir("/proc/self/fd") {
      var count = -3  // ".", ".." and this folder itself
      while readdir(folder) != nil { count += 1 }
      closedir(folder)
      openFiles = max(count, 0)
    }
    if let memory = text("/proc/meminfo") {
      for line in memory.split(separator: "\n") {
        let words = line.split(separator: " ")
        guard words.count >= 2, let size = Int(words[1]) else { continue }
        if words[0] == "MemTotal:" { machineBytes = size * 1024 }
        if words[0] == "MemAvailable:" { machineAvailableBytes = size * 1024 }
      }
    }
  }

  private func bootTime() -> Double? {
    guard let stat = text("/proc/stat") else { return nil }
    for line in stat.split(separator: "\n") where line.hasPrefix("btime ") { return Double(line.dropFirst(6)) }
    return nil
  }

  private func text(_ path: String) -> String? {
    guard let file = fopen(path, "r") else { return nil }
    defer { fclose(file) }
    var bytes: [UInt8] = []
    var part = [UInt8](repeating: 0, count: 8192)
    while bytes.count < 1 << 20 {
      let count = fread(&part, 1, part.count, file)
      if count == 0 { break }
      bytes += part[..<count]
    }
    return String(decoding: bytes, as: UTF8.self)
  }
}
