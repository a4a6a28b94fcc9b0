import Apus
import ApusTensor
import ArgumentParser
import CApusKernels

/// Times single operations at shapes that a file names: what `Benchmarks/sweep.py` compares with PyTorch.
struct Sweep: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Time operations at many shapes.",
    discussion: """
      Each line of the file is one case:
        matmul M K N [t]                       [M, K] times [K, N]; t: the right side given as [N, K]
        conv N C H W O KH KW STRIDE PAD DILATION GROUPS
        softmax ROWS COLUMNS | sum ROWS COLUMNS AXIS | add ROWS COLUMNS | transpose ROWS COLUMNS
        attention BATCH HEADS QUERIES KEYS DIM
      For each, one line of JSON: the case and the median and minimum milliseconds.
      """)

  @Argument(help: "The file with the cases.")
  var file: String

  @Option(help: "Threads to compute with.")
  var threads: Int = 2

  @Option(help: "Seconds for each case.")
  var budget: Double = 0.2

  func validate() throws {
    if threads < 1 || threads > 256 { throw ValidationError("--threads \(threads) is not within 1 and 256.") }
    if !(budget > 0 && budget <= 60) { throw ValidationError("--budget \(budget) is not within 0 and 60 seconds.") }
  }

  func run() throws {
    apus_set_thread_count(Int32(threads))
    let mapped = try FileBytes(mapping: file)
    let text = withExtendedLifetime(mapped) { String(decoding: mapped.bytes, as: UTF8.self) }
    for (number, line) in text.split(separator: "\n").enumerated() {
      let words = line.split(separator: " ").map(String.init)
      guard let step = SweepCase.step(words) else {
        throw ValidationError("\(file), line \(number + 1): '\(line)' is not a case; see apus sweep --help.")
      }
      var times: [Double] = []
      withoutGradient {
        for _ in 0..<2 { step() }
        let start = Clock.seconds()
        while times.count < 3 || (Clock.seconds() - start < budget && times.count < 10_000) {
          let before = Clock.seconds()
          step()
          times.append(Clock.seconds() - before)
        }
      }
      times.sort()
      print(
        "{\"case\": \"\(line)\", \"median_ms\": \(decimals(times[times.count / 2] * 1e3, 5)), \"min_ms\": \(decimals(times[0] * 1e3, 5))}"
      )
    }
  }
}

private enum SweepCase {
  /// What a line says to do, its operands made; nil if it says nothing sensible.
  static func step(_ words: [String]) -> (() -> Void)? {
    guard let kind = words.first else { return nil }
    let transposed = words.last == "t"
    let numbers = words.dropFirst().prefix(words.count - 1 - (transposed ? 1 : 0)).compactMap { Int($0) }
    guard numbers.count == words.count - 1 - (transposed ? 1 : 0), numbers.allSatisfy({ $0 >= 0 && $0 <= 1 << 24 }) else {
      return nil
    }
    func random(_ shape: Shape, _ seed: UInt64 = 0) -> Tensor { Tensor.randn(shape, generator: Generator(seed: seed)) }
    switch (kind, numbers.count) {
    case ("matmul", 3):
      let (m, k, n) = (numbers[0], numbers[1], numbers[2])
      let a = random([m, k])
      let b = transposed ? random([n, k], 1).transposed() : random([k, n], 1)
      return { _ = a.matmul(b) }
    case ("conv", 11):
      let p = numbers
      guard p[10] > 0, p[1] % p[10] == 0, p[4] % p[10] == 0, p[7] > 0, p[9] > 0, p[5] > 0, p[6] > 0,
        (p[5] - 1) * p[9] < p[2] + 2 * p[8], (p[6] - 1) * p[9] < p[3] + 2 * p[8]
      else { return nil }
      let x = random([p[0], p[1], p[2], p[3]]).inChannelsLast()
      let w = random([p[4], p[1] / p[10], p[5], p[6]], 1) * 0.1
      return { _ = conv2d(x, w, stride: p[7], padding: p[8], dilation: p[9], groups: p[10]) }
    case ("softmax", 2):
      let x = random([numbers[0], numbers[1]])
      return { _ = softmax(x) }
    case ("sum", 3):
      guard numbers[2] < 2 else { return nil }
      let x = random([numbers[0], numbers[1]])
      return { _ = x.sum(axis: numbers[2]) }
    case ("add", 2):
      let (a, b) = (random([numbers[0], numbers[1]]), random([numbers[0], numbers[1]], 1))
      return { _ = a + b }
    case ("transpose", 2):
      let x = random([numbers[0], numbers[1]])
      return { _ = x.transposed().contiguous() }
    case ("attention", 5):
      let p = numbers
      let (q, k, v) = (
        random([p[0], p[1], p[2], p[4]]), random([p[0], p[1], p[3], p[4]], 1), random([p[0], p[1], p[3], p[4]], 2)
      )
      return { _ = scaledDotProductAttention(q, k, v) }
    default: return nil
    }
  }
}
