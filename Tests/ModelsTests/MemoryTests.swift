import ApusModels
import ApusNN
import ApusTensor
import CApusKernels
import Foundation
import Testing

/// What a program says it needs is what its runs then take: each in a process of its own, where nobody else has memory.
@Suite struct MemoryTests {
  /// Within a tenth: size classes round up by less than an eighth, and kernels borrow small blocks that nobody counts.
  private static func check(_ name: String, _ planned: Int, sourceLocation: SourceLocation = #_sourceLocation) {
    let used = Int(apus_memory().peak)
    let ratio = Double(used) / Double(planned)
    print("\(name): planned \(planned / 1000) kB, used \(used / 1000) kB, \(ratio)")
    if !(0.9...1.1).contains(ratio) { exit(1) }
  }

  @Test func aTrainingStepOfAConvolutionalNetwork() async {
    await #expect(processExitsWith: .success) {
      let model = ResNet18(classes: 10)
      let optimizer = SGD(model.parameters, learningRate: 0.01, momentum: 0.9)
      let (x, y) = (Tensor.randn([8, 3, 96, 96]), Tensor.integers(0..<10, [8]))
      let step = compile("step") { (x: Tensor, y: Tensor) -> Tensor in
        let loss = crossEntropy(model(x), y)
        optimizer.step(minimizing: loss)
        return loss
      }
      for _ in 0..<3 { _ = step(x, y) }
      MemoryTests.check("ResNet-18, training", step.report.traces[step.report.traces.count - 1].memory.total)
    }
  }

  @Test func inferenceOfATransformer() async {
    await #expect(processExitsWith: .success) {
      let model = BERT(.init(vocabulary: 4000, positions: 128, dim: 512, heads: 8, layers: 3))
      model.eval()
      let ids = Tensor.integers(0..<4000, [4, 128])
      let run = compile("run") { (ids: Tensor) -> Tensor in withoutGradient { model(ids) } }
      for _ in 0..<3 { _ = run(ids) }
      MemoryTests.check("BERT, inference", run.report.traces[0].memory.total)
    }
  }

  @Test func aTrainingStepOfATransformer() async {
    await #expect(processExitsWith: .success) {
      let model = GPT2(.init(vocabulary: 4000, positions: 128, dim: 256, heads: 4, layers: 3))
      let optimizer = AdamW(model.parameters, learningRate: 1e-3)
      let (x, y) = (Tensor.integers(0..<4000, [2, 128]), Tensor.integers(0..<4000, [256]))
      let step = compile("step") { (x: Tensor, y: Tensor) -> Tensor in
        let loss = crossEntropy(model(x).flattened(from: 0, to: 1), y)
        optimizer.step(minimizing: loss)
        return loss
      }
      for _ in 0..<3 { _ = step(x, y) }
      MemoryTests.check("GPT-2, training", step.report.traces[step.report.traces.count - 1].memory.total)
    }
  }
}
