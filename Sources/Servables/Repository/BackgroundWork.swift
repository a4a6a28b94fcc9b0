import CApusKernels
import Dispatch
import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// Takes callers one after the other (or a few at once) in the order in which they came.
final class TurnQueue: Sendable {
  private struct State {
    var free: Int
    var waiting: [CheckedContinuation<Void, Never>] = []
  }

  private let state: Mutex<State>

  init(_ width: Int = 1) { state = Mutex(State(free: max(1, width))) }

  /// Calls `body` when it is this caller's turn. `body` must not cancel: whoever has a turn gives it back.
  func run<Result: Sendable>(_ body: @Sendable () async -> Result) async -> Result {
    await withCheckedContinuation { continuation in
      let isFree = state.withLock { state -> Bool in
        if state.free > 0 {
          state.free -= 1
          return true
        }
        state.waiting.append(continuation)
        return false
      }
      if isFree { continuation.resume() }
    }
    let result = await body()
    let next = state.withLock { state -> CheckedContinuation<Void, Never>? in
      if state.waiting.isEmpty {
        state.free += 1
        return nil
      }
      return state.waiting.removeFirst()
    }
    next?.resume()
    return result
  }
}

/// Something that happens once, which others may wait for.
final class Signal: Sendable {
  private struct State {
    var isFired = false
    var next = 0
    var waiting: [Int: (continuation: CheckedContinuation<Bool, Never>, timer: Task<Void, Never>?)] = [:]
  }

  private let state = Mutex(State())

  func fire() {
    let waiting = state.withLock { state in
      state.isFired = true
      defer { state.waiting = [:] }
      return state.waiting
    }
    for (_, waiter) in waiting {
      waiter.timer?.cancel()
      waiter.continuation.resume(returning: true)
    }
  }

  /// Whether it happened within this time.
  func wait(for limit: Duration) async -> Bool {
    await withCheckedContinuation { continuation in
      let id = state.withLock { state -> Int? in
        if state.isFired { return nil }
        state.next += 1
        state.waiting[state.next] = (continuation, nil)
        return state.next
      }
      guard let id else {
        continuation.resume(returning: true)
        return
      }
      let timer = Task { [self] in
        try? await Task.sleep(for: limit)
        let waiter = state.withLock { $0.waiting.removeValue(forKey: id) }
        waiter?.continuation.resume(returning: false)
      }
      let isWaiting = state.withLock { state -> Bool in
        guard state.waiting[id] != nil else { return false }
        state.waiting[id]?.timer = timer
        return true
      }
      if !isWaiting { timer.cancel() }
    }
  }
}

/// Runs work that blocks (files, loading, warming up) on a thread of its own.
/// - Parameter isQuiet: the thread gives way to all others and leaves the thread pool to them, so that models that are being served
///   hardly notice.
func inBackground<Result: Sendable>(quiet isQuiet: Bool, _ work: @escaping @Sendable () -> Result) async -> Result {
  await withCheckedContinuation { continuation in
    let isStarted = startWorkerThread {
      if isQuiet {
        lowerThreadPriority()
        apus_set_inline(true)
      }
      continuation.resume(returning: work())
    }
    // No thread to be had: slower, not wrong.
    if !isStarted { DispatchQueue.global(qos: .utility).async { continuation.resume(returning: work()) } }
  }
}

private func lowerThreadPriority() {
  #if os(Linux)
    // Of the calling thread alone: Linux's threads have priorities of their own. 15 of 19: under full load, a thirtieth of a
    // processor, so that loading goes on.
    _ = setpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0, 15)
  #elseif canImport(Darwin)
    pthread_set_qos_class_self_np(QOS_CLASS_UTILITY, 0)
  #endif
}
