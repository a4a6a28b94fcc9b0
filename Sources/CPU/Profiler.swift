import ApusIR
import CApusKernels

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// Notes kernel calls of one thread: what ran, when, for how long, on what.
package final class Profiler {
  package struct Event: Sendable {
    package let name: String
    /// In seconds since the profile began.
    package let start, duration: Double
    package let work: Work
  }

  package private(set) var events: [Event] = []
  /// Told of each variable whose value is read.
  package var onRead: ((AnyObject) -> Void)?
  private let began = monotonicSeconds()

  package init() {}

  /// The profiler of this thread.
  @inline(__always) package static var active: Profiler? {
    guard let profiler = apus_thread().pointee.profiler else { return nil }
    return Unmanaged<Profiler>.fromOpaque(profiler).takeUnretainedValue()
  }

  /// Runs `body` while kernel calls of this thread are noted here.
  package func noting<R, E>(_ body: () throws(E) -> R) throws(E) -> R {
    let state = apus_thread()!
    let before = state.pointee.profiler
    state.pointee.profiler = Unmanaged.passUnretained(self).toOpaque()
    defer { state.pointee.profiler = before }
    return try body()
  }

  package func note<R, E>(_ name: @autoclosure () -> String, _ work: @autoclosure () -> Work, _ body: () throws(E) -> R) throws(E)
    -> R
  {
    let start = monotonicSeconds()
    defer { events.append(Event(name: name(), start: start - began, duration: monotonicSeconds() - start, work: work())) }
    return try body()
  }

  /// An operation run by itself, noted if this thread is being profiled.
  @inline(__always) package static func noting<R, E>(
    _ operation: Operation, _ inputs: [TensorType], _ results: [TensorType], _ body: () throws(E) -> R
  ) throws(E) -> R {
    guard let profiler = active else { return try body() }
    return try profiler.note(operation.name, Work(operation, inputs, results), body)
  }
}

/// Seconds of a clock that only runs forward.
package func monotonicSeconds() -> Double {
  var time = timespec()
  clock_gettime(CLOCK_MONOTONIC, &time)
  return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
}
