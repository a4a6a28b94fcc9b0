import ApusNN
import ApusTensor
import Testing

/// What `summary()` counts.
@Suite struct SummaryTests {
  /// Attention as somebody writes it who has never heard of `recorded`.
  final class OwnAttention: Module {
    let q = Linear(8, 8), k = Linear(8, 8), v = Linear(8, 8)
    func callAsFunction(_ x: Tensor) -> Tensor {
      let scores = softmax(q(x).matmul(k(x).transposed()))
      return scores.matmul(v(x))
    }
  }

  final class OwnProduct: Module {
    let weight = Parameter(Tensor.randn([8, 5]))
    func callAsFunction(_ x: Tensor) -> Tensor { x.matmul(weight.value) }
  }

  final class Net: Module {
    let attention = OwnAttention()
    let norm = LayerNorm(8)
    let product = OwnProduct()
    let tied = Embedding(5, 8)
    let head = Linear(5, 3)
    func callAsFunction(_ x: Tensor) -> Tensor {
      let h = norm(attention(x))
      let logits = product(h)
      _ = h.matmul(tied.weight.value.transposed())
      return head(logits)
    }
  }

  @Test func multiplyAddsBelongToWhoeverComputes() {
    let net = Net()
    net.product.freeze()
    let summary = net.summary { _ = net(Tensor.zeros([2, 6, 8])) }
    let work = Dictionary(uniqueKeysWithValues: summary.rows.map { ($0.name, $0.multiplyAdds) })
    #expect(work["attention.q"] == 2 * 6 * 8 * 8)
    #expect(work["attention"] == 2 * 2 * 6 * 6 * 8, "two products of 6 × 6 scores with 8 features, for 2 samples")
    #expect(work["norm"] == 0)
    #expect(work["product"] == 2 * 6 * 8 * 5)
    #expect(work["tied"] == 2 * 6 * 8 * 5)
    #expect(work["head"] == 2 * 6 * 5 * 3)
    #expect(summary.multiplyAdds == work.values.reduce(0, +))
    #expect(
      summary.description == """
                     type          output     parameters  bytes  multiply-adds
        ──────────────────────────────────────────────────────────────────────────────
        attention    OwnAttention                                        1,152
        attention.q  Linear        [2, 6, 8]          72    288            768
        attention.k  Linear        [2, 6, 8]          72    288            768
        attention.v  Linear        [2, 6, 8]          72    288            768
        norm         LayerNorm     [2, 6, 8]          16     64
        product      OwnProduct                       40    160            480  frozen
        tied         Embedding                        40    160            480
        head         Linear        [2, 6, 3]          18     72            180
        ──────────────────────────────────────────────────────────────────────────────
        330 parameters (290 trainable, 40 not), 1.3 kB, 4,596 multiply-adds
        """)
  }

  @Test func convolutionsAndCompiledModelsCount() {
    let net = Sequential {
      SeparableConv2d(3, 8, kernelSize: 3, padding: 1); ReLU(); GlobalAvgPool2d(); Linear(8, 2)
    }
    let expected = 16 * 16 * (3 * 9 + 3 * 8) + 8 * 2
    #expect(net.summary(input: [3, 16, 16]).multiplyAdds == expected)
    let compiled = compile { (x: Tensor) -> Tensor in net(x) }
    #expect(net.summary { _ = compiled(Tensor.zeros([1, 3, 16, 16])) }.multiplyAdds == expected)
    // A module that records its output counts what it computes beside its parts.
    let einsum = Sequential { EinsumDense("abc,cd->abd", outputShape: [nil, 5], biasAxes: "d") }
    #expect(einsum.summary(input: [3, 4]).rows.map(\.multiplyAdds) == [3 * 4 * 5])
  }
}
