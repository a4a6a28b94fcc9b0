import CApusKernels
import Testing

@testable import ApusTensor

func bits(_ x: Tensor) -> [UInt8] { x.withUnsafeBytes { Array($0) } }

/// Many tasks on the same tensors and variables. `make test-threads` runs these under the thread sanitizer.
@Suite struct ConcurrentTensorTests {
  private static let tasks = 16

  @Test func manyTasksComputeWithTheSameTensors() async {
    let x = Tensor.arange(600, .float32).reshaped(20, 30) * 0.01
    let w = Tensor.arange(900, .float32).reshaped(30, 30) * 0.001
    @Sendable func compute() -> [UInt8] {
      let y = softmax(relu(x.matmul(w)) - x.mean(), axis: 1)
      return bits(concatenate([y, x.sliced(axis: 0, start: 2, count: 3) * 2]).transposed().sum(axis: 0))
    }
    let expected = compute()
    await withTaskGroup(of: [UInt8].self) { group in
      for _ in 0..<Self.tasks { group.addTask { (0..<20).reduce(into: []) { result, _ in result = compute() } } }
      for await result in group { #expect(result == expected) }
    }
  }

  /// Enough work for every thread of the pool; the tasks that find it taken compute inline, at the same time.
  @Test func manyTasksUseThePool() async {
    let threads = apus_thread_count()
    apus_set_thread_count(4)
    defer { apus_set_thread_count(threads) }
    let generator = Generator(seed: 1)
    let x = Tensor.randn([256, 256], generator: generator)
    let images = Tensor.randn([2, 8, 48, 48], generator: generator)
    let kernel = Tensor.randn([16, 8, 3, 3], generator: generator)
    let scores = Tensor.randn([50_000], generator: generator)
    @Sendable func compute() -> [[UInt8]] {
      let product = softmax(x.matmul(x.transposed()) * 0.01, axis: 1)
      let features = relu(conv2d(images, kernel, padding: 1))
      return [
        bits(product), bits(features), bits(maxPool2d(features, kernelSize: 2)), bits(product.sum(axis: 0)),
        bits(features.mean()),
        bits(scores.sorted().values), bits(exp(scores).cumulativeSum(axis: 0)),
      ]
    }
    let expected = compute()
    await withTaskGroup(of: [[UInt8]].self) { group in
      for _ in 0..<6 { group.addTask { (0..<3).reduce(into: []) { result, _ in result = compute() } } }
      for await result in group { #expect(result == expected) }
    }
  }

  @Test func manyTasksTakeGradientsByTheSameParameters() async throws {
    let w = Parameter(Tensor.arange(64, .float32).reshaped(8, 8) * 0.01)
    let b = Parameter(Tensor.ones([8]))
    let x = Tensor.arange(32, .float32).reshaped(4, 8) * 0.1
    @Sendable func compute() -> [[UInt8]] {
      let loss = square(checkpoint(linear(x, w.value, b.value)) { tanh($0) * b.value }).sum()
      let nested = gradient(at: x) { x in square(linear(x, w.value, b.value)).sum() }
      return (loss + nested.sum()).gradients(for: [w, b]).values.map { bits($0!) }
    }
    let expected = compute()
    await withTaskGroup(of: [[UInt8]].self) { group in
      for _ in 0..<Self.tasks { group.addTask { (0..<10).reduce(into: []) { result, _ in result = compute() } } }
      for await result in group { #expect(result == expected) }
    }
  }

  /// The gradient of one graph that several tasks walk at once.
  @Test func oneHistoryWalkedByManyTasks() async {
    let w = Parameter(Tensor.arange(64, .float32) * 0.01)
    let loss = (exp(w.value) * sigmoid(w.value)).sum()
    let expected = bits(loss.gradients(for: [w])[w]!)
    await withTaskGroup(of: [UInt8].self) { group in
      for _ in 0..<Self.tasks { group.addTask { bits(loss.gradients(for: [w])[w]!) } }
      for await result in group { #expect(result == expected) }
    }
  }

  @Test func variablesReadWhileWritten() async {
    let state = Variable(Tensor.zeros([1000]), name: "state")
    let weight = Parameter(Tensor.zeros([1000]))
    await withTaskGroup(of: Bool.self) { group in
      for writer in 1...4 {
        group.addTask {
          for i in 0..<50 {
            let value = Tensor.full([1000], Double(writer * 100 + i)).contiguous()
            state.value = value
            weight.value = value * 2
          }
          return true
        }
      }
      for _ in 0..<4 {
        group.addTask {
          (0..<50).allSatisfy { _ in
            // A value is whole, whatever is written meanwhile; what was computed from it stays.
            let value = state.value
            let loss = (weight.value * value).sum()
            let gradient = loss.gradients(for: [weight])[weight]!
            let (low, high) = (value.min().item(), value.max().item())
            return low == high && bits(gradient) == bits(value) && !state.name.isEmpty
          }
        }
      }
      for await whole in group { #expect(whole) }
    }
  }

  /// Updates in the variable's own memory, as optimizers make them, while others read.
  @Test func updatesInPlaceAreNeverSeenHalfDone() async {
    let weight = Parameter(Tensor.zeros([4096]).contiguous())
    await withTaskGroup(of: Bool.self) { group in
      group.addTask {
        for _ in 1...200 {
          let (current, next) = weight.arrayForUpdate()
          let (from, to) = (current.pointer.assumingMemoryBound(to: Float.self), next.pointer.assumingMemoryBound(to: Float.self))
          for i in 0..<4096 { to[i] = from[i] + 1 }
          withExtendedLifetime(current) {}
          weight.assign(next)
        }
        return weight.value.min().item() == 200
      }
      for _ in 0..<4 {
        group.addTask {
          (0..<200).allSatisfy { _ in
            let value = weight.value
            return value.min().item() == value.max().item()
          }
        }
      }
      for await whole in group { #expect(whole) }
    }
  }

  @Test func generatorsAreSafeAndReproducible() async {
    let generator = Generator(seed: 3)
    await withTaskGroup(of: Double.self) { group in
      for _ in 0..<Self.tasks { group.addTask { Tensor.rand([100], generator: generator).mean().item(as: Double.self) } }
      for await mean in group { #expect(mean > 0.3 && mean < 0.7) }
    }
    let other = Generator(seed: 3)
    for _ in 0..<Self.tasks { _ = Tensor.rand([100], generator: other) }
    #expect(generator.state == other.state)
  }
}
