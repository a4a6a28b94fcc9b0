import ApusTensor
import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// Appends events to a file of its own. Adding only puts them into memory; a task writes them.
package final class EventFileWriter: Sendable {
  private struct Queue {
    var bytes: [UInt8] = []
    var events = 0
    var hasTimer = false
    var isDraining = false
  }

  private struct File {
    var descriptor: Int32
    var size = 0
    var failure: FormatError?
  }

  package let path: String
  private let queueSize: Int
  private let flushSeconds: Double
  private let queue = Lock(Queue())
  private let file: Lock<File>

  /// A queue of so many bytes is written by whoever adds to it: memory has an end where the disk is slow.
  private static let bytesInMemory = 64 << 20
  /// Counts the files of this process, whose names would be the same within a second.
  private static let count = Atomic<Int>(0)

  package init(folder: String, suffix: String, queueSize: Int, flushSeconds: Double) throws(FormatError) {
    (self.queueSize, self.flushSeconds) = (queueSize, flushSeconds)
    try createFolder(folder)
    let number = Self.count.wrappingAdd(1, ordering: .relaxed).oldValue
    let seconds = String(max(0, Int(now())))
    let time = String(repeating: "0", count: max(0, 10 - seconds.count)) + seconds
    path = "\(folder)/events.out.tfevents.\(time).\(hostName()).\(getpid()).\(number)\(suffix)"
    let descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0o666)
    guard descriptor >= 0 else { throw FormatError(.cannotWrite, file: path, "cannot be created: \(systemMessage(errno))") }
    file = Lock(File(descriptor: descriptor))
    queue.withLock { $0.bytes = TFRecord.framed(Event(wallTime: now(), .version("brain.Event:2")).message) }
    // At once, so that viewers see the run.
    drain()
    OpenWriters.insert(self)
  }

  deinit { try? close() }

  package func add(_ event: Event) {
    let record = TFRecord.framed(event.message)
    let (isFull, isHuge, startsTimer) = queue.withLock { queue in
      queue.bytes += record
      queue.events += 1
      let isHuge = queue.bytes.count > Self.bytesInMemory
      let isFull = queue.events >= queueSize && !queue.isDraining && !isHuge
      let startsTimer = !isFull && !isHuge && !queue.hasTimer
      if isFull { queue.isDraining = true }
      if startsTimer { queue.hasTimer = true }
      return (isFull, isHuge, startsTimer)
    }
    if isHuge { drain() }
    if isFull { Task.detached(priority: .utility) { self.drain() } }
    if startsTimer {
      Task.detached(priority: .utility) { [weak self, flushSeconds] in
        try? await Task.sleep(for: .seconds(flushSeconds))
        self?.timeIsUp()
      }
    }
  }

  /// Writes what waits; throws the first failure there ever was.
  package func flush() throws(FormatError) {
    drain()
    if let failure = file.withLock({ $0.failure }) { throw failure }
  }

  package func close() throws(FormatError) {
    OpenWriters.remove(self)
    drain()
    let failure = file.withLock { file -> FormatError? in
      if file.descriptor >= 0, Self.systemClose(file.descriptor) != 0, file.failure == nil {
        file.failure = FormatError(.cannotWrite, file: path, "cannot be closed: \(systemMessage(errno))")
      }
      file.descriptor = -1
      return file.failure
    }
    if let failure { throw failure }
  }

  private func timeIsUp() {
    queue.withLock { $0.hasTimer = false }
    drain()
  }

  /// The file's lock is taken first, so that pieces come in their order.
  fileprivate func drain() {
    file.withLock { file in
      let bytes = queue.withLock { queue -> [UInt8] in
        defer { (queue.bytes, queue.events, queue.isDraining) = ([], 0, false) }
        return queue.bytes
      }
      guard !bytes.isEmpty, file.failure == nil, file.descriptor >= 0 else { return }
      var done = 0
      while done < bytes.count {
        let written = bytes.withUnsafeBytes {
          Self.systemWrite(file.descriptor, $0.baseAddress! + done, min($0.count - done, 1 << 30))
        }
        if written < 0, errno == EINTR { continue }
        guard written >= 0 else {
          let code = errno
          // A full disk must not leave half a record for readers to wait on.
          _ = ftruncate(file.descriptor, off_t(file.size))
          file.failure = FormatError(.cannotWrite, file: path, offset: file.size, "cannot be written: \(systemMessage(code))")
          return
        }
        done += written
      }
      file.size += bytes.count
    }
  }

  private static func systemWrite(_ descriptor: Int32, _ bytes: UnsafeRawPointer, _ count: Int) -> Int {
    #if canImport(Glibc)
      Glibc.write(descriptor, bytes, count)
    #elseif canImport(Musl)
      Musl.write(descriptor, bytes, count)
    #elseif canImport(Darwin)
      Darwin.write(descriptor, bytes, count)
    #endif
  }

  private static func systemClose(_ descriptor: Int32) -> Int32 {
    #if canImport(Glibc)
      Glibc.close(descriptor)
    #elseif canImport(Musl)
      Musl.close(descriptor)
    #elseif canImport(Darwin)
      Darwin.close(descriptor)
    #endif
  }
}

/// Writers that are open when the process ends are flushed: globals are never deinitialized.
private enum OpenWriters {
  struct Reference {
    weak var writer: EventFileWriter?
  }

  static let all = Lock<[ObjectIdentifier: Reference]>([:])
  static let isRegistered: Bool = atexit { OpenWriters.flush() } == 0

  static func insert(_ writer: EventFileWriter) {
    _ = isRegistered
    let reference = Reference(writer: writer)
    all.withLock { $0[ObjectIdentifier(writer)] = reference }
  }

  static func remove(_ writer: EventFileWriter) {
    let key = ObjectIdentifier(writer)
    all.withLock { _ = $0.removeValue(forKey: key) }
  }

  static func flush() {
    let writers = all.withLock { $0.values.compactMap(\.writer) }
    for writer in writers { writer.drain() }
  }
}

/// Seconds since 1970.
package func now() -> Double {
  var time = timespec()
  clock_gettime(CLOCK_REALTIME, &time)
  return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
}

private func hostName() -> String {
  var name = [CChar](repeating: 0, count: 256)
  guard gethostname(&name, name.count - 1) == 0 else { return "localhost" }
  let text = name.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
  let safe = text.map { $0 == "/" || $0 == "\\" ? "_" : $0 }
  return safe.isEmpty ? "localhost" : String(safe)
}
