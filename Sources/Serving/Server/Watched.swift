import Synchronization

/// A value whose changes tasks can wait for.
final class Watched<Value: Sendable>: Sendable {
  private struct Waiter {
    let id: Int
    let isOver: @Sendable (Value) -> Bool
    let continuation: CheckedContinuation<Void, Never>
  }

  private struct State {
    var value: Value
    var waiters: [Waiter] = []
    var nextID = 0
  }

  private let state: Mutex<State>

  init(_ value: Value) { state = Mutex(State(value: value)) }

  var value: Value { state.withLock(\.value) }

  func change(_ body: (inout Value) -> Void) {
    let ready = state.withLock { state in
      body(&state.value)
      let ready = state.waiters.filter { $0.isOver(state.value) }
      state.waiters.removeAll { waiter in ready.contains { $0.id == waiter.id } }
      return ready
    }
    for waiter in ready { waiter.continuation.resume() }
  }

  /// Until the value is so, or the task is cancelled.
  func wait(until isOver: @escaping @Sendable (Value) -> Bool) async {
    let id = state.withLock { state in
      state.nextID += 1
      return state.nextID
    }
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let isOverNow = state.withLock { state in
          if isOver(state.value) { return true }
          state.waiters.append(Waiter(id: id, isOver: isOver, continuation: continuation))
          return false
        }
        if isOverNow { return continuation.resume() }
        // The handler below may have run before there was anything to drop.
        if Task.isCancelled { drop(id) }
      }
    } onCancel: {
      drop(id)
    }
  }

  private func drop(_ id: Int) {
    let waiter = state.withLock { state in
      let waiter = state.waiters.first { $0.id == id }
      state.waiters.removeAll { $0.id == id }
      return waiter
    }
    waiter?.continuation.resume()
  }
}
