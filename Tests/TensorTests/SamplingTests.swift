import ApusTensor
import CApusKernels
import Testing

@Suite struct SamplingTests {
  static let n = 100_000
  typealias Draw = (name: String, body: @Sendable (Generator) -> Tensor)
  static let draws: [Draw] = [
    ("uniform", { Tensor.uniform([n], low: -1, high: 3, .float64, generator: $0) }),
    ("normal", { Tensor.normal([n], mean: 2, standardDeviation: 3, .float64, generator: $0) }),
    ("truncatedNormal", { Tensor.truncatedNormal([n], .float64, generator: $0) }),
    ("bernoulli", { Tensor.bernoulli([n], probability: 0.3, generator: $0).converted(to: .float64) }),
    ("exponential", { Tensor.exponential([n], rate: 4, .float64, generator: $0) }),
    ("permutation", { Tensor.permutation(n, generator: $0).converted(to: .float64) }),
    ("integers", { Tensor.integers(-2..<7, [n], generator: $0).converted(to: .float64) }),
    (
      "categorical",
      {
        Tensor.categorical(logits: log(Tensor([1.0, 2, 5], .float64)).broadcast(to: [n / 10, 3]), generator: $0).converted(
          to: .float64)
      }
    ),
    (
      "multinomial",
      { Tensor.multinomial(Tensor([1, 2, 5]), count: n, replacement: true, generator: $0).converted(to: .float64) }
    ),
    ("without replacement", { Tensor.multinomial(Tensor.ones([n / 4, 4]), count: 2, generator: $0).converted(to: .float64) }),
    ("shuffled", { Tensor.arange(n).shuffled(generator: $0).converted(to: .float64) }),
  ]

  @Test func seedsRepeatAndDiffer() {
    for (name, body) in Self.draws {
      let generator = Generator(seed: 7)
      let first = body(generator).elements(as: Double.self)
      #expect(first == body(Generator(seed: 7)).elements(as: Double.self), "\(name)")
      #expect(first != body(generator).elements(as: Double.self), "\(name): a second draw")
      #expect(first != body(Generator(seed: 8)).elements(as: Double.self), "\(name): another seed")
    }
  }

  @Test func threadCountsGiveTheSameBits() {
    let count = apus_thread_count()
    defer { apus_set_thread_count(count) }
    for (name, body) in Self.draws {
      apus_set_thread_count(1)
      let expected = body(Generator(seed: 9)).elements(as: Double.self)
      for threads in [2, 3, 8] as [Int32] {
        apus_set_thread_count(threads)
        #expect(body(Generator(seed: 9)).elements(as: Double.self) == expected, "\(name) with \(threads) threads")
      }
    }
  }

  /// Mean and standard deviation from the distributions' formulas; the bound is five standard errors.
  @Test func moments() {
    let expected: [String: (mean: Double, deviation: Double)] = [
      "uniform": (1, 4 / 12.0.squareRoot()), "normal": (2, 3), "bernoulli": (0.3, 0.21.squareRoot()), "exponential": (0.25, 0.25),
      // Var = 1 − 2 a φ(a) / (2 Φ(a) − 1) for a = 2.
      "truncatedNormal": (0, 0.773_741_3.squareRoot()), "integers": (2, (80.0 / 12).squareRoot()),
      "categorical": (1.5, 0.5.squareRoot()), "multinomial": (1.5, 0.5.squareRoot()),
      "without replacement": (1.5, 1.25.squareRoot()),
    ]
    for (name, body) in Self.draws {
      guard let (mean, deviation) = expected[name] else { continue }
      let values = body(Generator(seed: 3))
      let error = 5 * deviation / Double(values.count).squareRoot()
      #expect(abs(values.mean().item(as: Double.self) - mean) < error, "\(name)")
      #expect(abs(values.standardDeviation().item(as: Double.self) - deviation) < 2 * error, "\(name)")
    }
  }

  @Test func permutationsHoldEverything() {
    let order = Tensor.permutation(1000, generator: Generator(seed: 1))
    #expect(order.sorted().values.elements(as: Int.self) == Array(0..<1000))
    let x = Tensor.arange(12).reshaped(3, 4)
    let shuffled = x.shuffled(axis: 1, generator: Generator(seed: 1))
    #expect(shuffled.sorted(axis: 1).values.elements(as: Int.self) == Array(0..<12))
    #expect((shuffled[1] - shuffled[0]).elements(as: Int.self) == [4, 4, 4, 4])
  }

  @Test func multinomialHonoursZerosAndReplacement() {
    let weights = Tensor([[0, 1, 0, 3], [2, 0, 0, 0.001]])
    let with = Tensor.multinomial(weights, count: 5000, replacement: true, generator: Generator(seed: 5))
    #expect(Set(with[0].elements(as: Int.self)) == [1, 3])
    #expect(Set(with[1].elements(as: Int.self)).isSubset(of: [0, 3]))
    let without = Tensor.multinomial(weights, count: 2, generator: Generator(seed: 5))
    #expect(without.sorted().values.elements(as: Int.self) == [1, 3, 0, 3])
  }

  @Test func splitsAreIndependentOfEachOtherAndRepeat() {
    let parent = Generator(seed: 11)
    let children = parent.split(3)
    let again = Generator(seed: 11).split(3)
    let values = (children + [parent]).map { Tensor.normal([Self.n], .float64, generator: $0) }
    for i in 0..<3 {
      #expect(
        values[i].elements(as: Double.self) == Tensor.normal([Self.n], .float64, generator: again[i]).elements(as: Double.self))
    }
    for i in 0..<4 {
      for j in 0..<i {
        // A correlation coefficient of independent samples has deviation 1 / √n.
        let correlation = (values[i] * values[j]).mean().item(as: Double.self)
        #expect(abs(correlation) < 5 / Double(Self.n).squareRoot())
      }
    }
  }
}
