import ApusCPU
import Foundation
import Testing

@testable import ApusTensor

@Suite struct PictureTests {
  /// LeNet's forward pass, with one group.
  private func lenet() -> Graph {
    func conv(_ x: Tensor, _ w: Tensor, _ b: Tensor, padding: Int) -> Tensor {
      let p = ConvolutionParameters(
        stride: [1, 1], padLow: [padding, padding], padHigh: [padding, padding], kernelDilation: [1, 1], inputDilation: [1, 1])
      return apply(.convolution(p), x, w, b)
    }
    func pool(_ x: Tensor) -> Tensor {
      let window = Window(size: [2, 2], stride: [2, 2], padLow: [0, 0], padHigh: [0, 0], dilation: [1, 1])
      return apply(.reduceWindow(.max, window), x)
    }
    let program = compile("lenet") { (x: Tensor, p: [Tensor]) -> Tensor in
      let a = pool(relu(conv(x, p[0], p[1], padding: 2)))
      let b = pool(relu(conv(a, p[2], p[3], padding: 0))).reshaped([8, 400])
      let c = relu(apply(.composite(.linear), b, p[4], p[5]))
      let d = relu(apply(.composite(.linear), c, p[6], p[7]))
      return softmax(apply(.composite(.linear), d, p[8], p[9])) * 0.5
    }
    let shapes: [Shape] = [
      [6, 1, 5, 5], [6], [16, 6, 5, 5], [16], [120, 400], [120], [84, 120], [84], [10, 84], [10],
    ]
    var graph = program.program(Tensor.zeros([8, 1, 28, 28]), shapes.map { Tensor.zeros($0) }).graph
    var body = Graph()
    let x = body.addInput(graph.outputTypes[0])
    let scaled = body.append(.unary(.exp), [x], types: [body.type(x)])
    body.setOutputs(Array(body.append(.unary(.relu), Array(scaled), types: [body.type(x)])))
    let group = graph.append(.call(Function("fused tail", body, role: .fusion)), graph.outputs, types: body.outputTypes)
    graph.setOutputs(Array(group), names: ["probabilities"])
    return graph
  }

  @Test func everyOperationIsDrawn() throws {
    let graph = lenet()
    let (dot, svg) = (graph.dot(), graph.svg())
    if let folder = ProcessInfo.processInfo.environment["APUS_PICTURES"] {
      try svg.write(toFile: folder + "/lenet.svg", atomically: true, encoding: .utf8)
      try dot.write(toFile: folder + "/lenet.dot", atomically: true, encoding: .utf8)
    }
    for text in [dot, svg] {
      for name in [
        "convolution", "max pooling", "relu", "linear", "softmax", "fused tail", "· exp", "probabilities", "float32[8, 10]",
      ] {
        #expect(text.contains(name), "\(name)")
      }
    }
    #expect(dot.components(separatedBy: " -> ").count > graph.nodes.count)
  }

  @Test func emptyGraphs() { #expect(Graph().svg().hasPrefix("<svg") && Graph().dot().hasPrefix("digraph")) }

  /// Names are data: they end no string and begin no tag.
  @Test func namesAreEscaped() {
    var graph = Graph()
    graph.setOutputs([graph.addInput(TensorType([], .float32), name: "<script>\"&\\")])
    #expect(graph.svg().contains("&lt;script&gt;&quot;&amp;\\"))
    #expect(graph.dot().contains("<script>\\\"&\\\\"))
  }
}
