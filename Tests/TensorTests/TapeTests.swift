#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif
import Testing

@testable import ApusTensor

/// Runs `body` on a thread whose stack has `bytes`.
private func onSmallStack(_ bytes: Int, _ body: @escaping @Sendable () -> Void) {
  final class Box {
    let body: @Sendable () -> Void
    init(_ body: @escaping @Sendable () -> Void) { self.body = body }
  }
  var attributes = pthread_attr_t()
  pthread_attr_init(&attributes)
  pthread_attr_setstacksize(&attributes, bytes)
  defer { pthread_attr_destroy(&attributes) }
  #if canImport(Glibc)
    var thread = pthread_t()
  #else
    var thread: pthread_t?
  #endif
  let box = Unmanaged.passRetained(Box(body)).toOpaque()
  let status = pthread_create(
    &thread, &attributes,
    { box in
      #if canImport(Glibc)
        Unmanaged<Box>.fromOpaque(box!).takeRetainedValue().body()
      #else
        Unmanaged<Box>.fromOpaque(box).takeRetainedValue().body()
      #endif
      return nil
    }, box)
  guard status == 0 else {
    Issue.record("pthread_create: \(status)")
    return
  }
  #if canImport(Glibc)
    pthread_join(thread, nil)
  #else
    pthread_join(thread!, nil)
  #endif
}

/// Chains far longer than the stack could recurse along. In a process of its own: what fails here is a crash.
@Suite struct DeepChainTests {
  @Test func hundredThousandOperations() async {
    await #expect(processExitsWith: .success) {
      onSmallStack(256 << 10) {
        let count = 100_000
        let w = Parameter(Tensor([1.0], shape: [1]))
        // Each link keeps its operand, its result, both operands, or nothing.
        let links: [@Sendable (Tensor) -> Tensor] = [
          { sin($0) }, { sqrt($0 + 1.5) }, { $0 * w.value }, { $0 + 1 }, { $0.reshaped([1, 1]).reshaped([1]) },
          { concatenate([$0, w.value]).sliced(axis: 0, start: 0, count: 1) },
        ]
        for link in links {
          var y = w.value * 1
          for _ in 0..<count { y = link(y) }
          precondition(y.sum().gradients(for: [w])[w] != nil)
          // Released here, also without a walk.
        }
        var nested = w.value * 1
        for _ in 0..<20_000 { nested = checkpoint(nested) { $0 * 0.5 } }
        precondition(nested.sum().gradients(for: [w])[w] != nil)
        var custom = w.value * 1
        for _ in 0..<20_000 { custom = customGradient(custom) { x in (x * 1, { $0 * (x - x + 1) }) } }
        precondition(custom.sum().gradients(for: [w])[w]!.item() == 1)
        nested = w.value
        custom = nested
        // A chain in a saved result only, and one that many share.
        var shared: [Tensor] = []
        var z = w.value * 1
        for i in 0..<count {
          z = sin(z)
          if i % 10_000 == 0 { shared.append(z) }
        }
        z = w.value
        shared.reverse()
        while shared.popLast() != nil {}
        // Gradients of gradients have chains of their own.
        let second = gradient(at: Tensor([0.5], shape: [1])) { x in
          gradient(at: x) { x in
            var y = x
            for _ in 0..<20_000 { y = sin(y) }
            return y.sum()
          }.sum()
        }
        precondition(second.item().isFinite)
      }
    }
  }

  @Test func releasingHistoryOfADeepChain() async {
    await #expect(processExitsWith: .success) {
      onSmallStack(256 << 10) {
        let w = Parameter(Tensor([1.0], shape: [1]))
        var y = w.value * 1
        for _ in 0..<100_000 { y = tanh(y * w.value) }
        precondition(y.sum().gradients(for: [w], releasingHistory: true)[w] != nil)
      }
    }
  }
}

// The mistakes whose lines messages must name stand in functions: code inside of a macro has lines of its own.

private func walkTwice() {
  let w = Parameter(Tensor([1.0, 2.0], shape: [2]))
  let loss = (w.value * w.value).sum()
  precondition(loss.gradients(for: [w], releasingHistory: true)[w]!.floats == [2, 4])
  _ = loss.gradients(for: [w])
}
private let lineOfWalkTwice = #line - 2

private func readBits() {
  let w = Parameter(Tensor([1.0, 2.0], shape: [2]))
  let y = apply(.bitcast(.float64), w.value)
  _ = y.sum().gradients(for: [w])
}
private let lineOfReadBits = #line - 2

private func logOfNegative() {
  let x = Tensor([1.0, -1.0], shape: [2])
  _ = log(x)
}
private let lineOfLogOfNegative = #line - 2

private func rootAtZero() {
  let w = Parameter(Tensor([1.0, 0.0], shape: [2]))
  let y = sqrt(w.value)  // its slope at zero is infinite
  _ = y.sum().gradients(for: [w])
}
private let lineOfRootAtZero = #line - 3

private func multiplyUnequal() {
  _ = Tensor.zeros([32, 784]).matmul(Tensor.zeros([512, 10]))
}
private let lineOfMultiplyUnequal = #line - 2

/// What a caller's mistake says before the program stops. Each runs in a process of its own.
@Suite struct GradientStopTests {
  private func message(_ result: ExitTest.Result?) -> String {
    String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
  }

  @Test func historyThatWasReleased() async {
    let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      walkTwice()
    }
    #expect(message(result).contains("Apus: gradients: the history of this tensor was given back"))
    #expect(message(result).contains("TapeTests.swift:\(lineOfWalkTwice))"))
  }

  @Test func missingGradientNamesTheOperation() async {
    let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      readBits()
    }
    #expect(message(result).contains("Apus: bitcast: has no gradient"))
    #expect(message(result).contains("TapeTests.swift:\(lineOfReadBits))"))
  }

  @Test func resultsThatHaveNoGradient() async {
    let vector = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      let w = Parameter(Tensor([1.0, 2.0], shape: [2]))
      _ = (w.value * 2).gradients(for: [w])
    }
    #expect(message(vector).contains("gradients: the result has shape [2]; a gradient needs a scalar"))
    let integers = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      _ = gradient(at: Tensor([1, 2], shape: [2])) { $0.sum() }
    }
    #expect(message(integers).contains("gradient: takes floating point tensors, got int64[2]"))
  }

  @Test func customGradientsOfTheWrongShape() async {
    let wrong = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      _ = gradient(at: Tensor([1.0, 2.0], shape: [2])) { customGradient($0, name: "mine") { x in (x, { $0.sum() }) }.sum() }
    }
    #expect(message(wrong).contains("mine: gradient 0 is float64[], the input float64[2]"))
    let count = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      _ = gradient(at: Tensor([1.0, 2.0], shape: [2])) { customGradient([$0], name: "mine") { x in (x[0], { _ in [] }) }.sum() }
    }
    #expect(message(count).contains("mine: the pullback gave 0 gradients for 1 inputs"))
  }

  @Test func anomalyNamesOperationAndLine() async {
    let forward = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      withAnomalyDetection(logOfNegative)
    }
    #expect(message(forward).contains("Apus: anomaly: log of float64[2] made a NaN or an infinity from finite numbers"))
    #expect(message(forward).contains("TapeTests.swift:\(lineOfLogOfNegative))"))
  }

  @Test func anomalyInAGradientNamesTheForwardLine() async {
    let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      withAnomalyDetection(rootAtZero)
    }
    #expect(message(result).contains("in the gradient of sqrt called at TapeTests.swift:\(lineOfRootAtZero)"))
  }

  @Test func anomalyModeLetsNumbersThrough() {
    let y = withAnomalyDetection { gradient(at: Tensor([1.0, 4.0], shape: [2])) { sqrt($0).sum() } }
    #expect(y.floats == [0.5, 0.25])
    // An infinity that was there before is nobody's fault here.
    _ = withAnomalyDetection { Tensor([Double.infinity], shape: [1]) + 1 }
  }

  @Test func shapesThatDoNotFitNameTheCaller() async {
    let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      multiplyUnequal()
    }
    #expect(
      message(result).contains("matmul: inner dimensions differ: [32, 784] × [512, 10]; expected the right side to have 784 rows")
    )
    #expect(message(result).contains("TapeTests.swift:\(lineOfMultiplyUnequal))"))
    let operators = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      _ = Tensor.zeros([2, 3]) + Tensor.zeros([4])
    }
    #expect(message(operators).contains("add: shapes [2, 3] and [4] do not broadcast to one"))
  }
}
