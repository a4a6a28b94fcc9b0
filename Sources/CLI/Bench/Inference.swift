import Apus

// Inference: in evaluation mode, without remembering anything for gradients.

extension Workload {
  private static func inference(
    _ name: String, batch: Int, _ make: @escaping @Sendable () -> (x: Tensor, model: Module, call: (Tensor) -> Tensor)
  ) -> Workload {
    Workload(name: name, items: Double(batch), unit: "sample/s") { mode in
      seed(0)
      let (x, model, call) = make()
      model.eval()
      let program = mode.program { [call($0[0])] }
      return { withoutGradient { _ = program([x]) } }
    }
  }

  static let inference: [Workload] =
    [1, 32].map { batch in
      inference("resnet18_infer_b\(batch)", batch: batch) {
        let model = ResNet18()
        return (Tensor.randn([batch, 3, 224, 224], generator: Generator(seed: 0)), model, { model($0) })
      }
    }
    + [1, 8].map { batch in
      inference("bert_base_infer_b\(batch)", batch: batch) {
        let model = BERT(.base)
        return (Tensor.integers(0..<30_522, [batch, 128], generator: Generator(seed: 3)), model, { model($0) })
      }
    }

  // A step reads a prompt of 32 tokens and then appends 64, each the most probable one, with a cache of keys and values.

  static let decoding: [Workload] = [("f32", ElementType.float32), ("bf16", .bfloat16)].map { tag, type in
    let (promptLength, new) = (32, 64)
    return Workload(name: "gpt2_small_decode_\(tag)", items: Double(new), unit: "token/s") { mode in
      seed(0)
      let model = GPT2(.init(elementType: type))
      model.eval()
      let prompt = Tensor.integers(0..<50_257, [1, promptLength], generator: Generator(seed: 3))
      // Variables: a compiled program writes into their memory.
      let cache = model.makeCache(batch: 1, length: promptLength + new).map { Variable($0) }
      let decode = mode.program { inputs in
        let (token, next) = model.decode(inputs[0], position: inputs[1], cache: cache.map(\.value))
        for (variable, tensor) in zip(cache, next) { variable.value = tensor }
        return [token]
      }
      return {
        withoutGradient {
          var token = decode([prompt, Tensor(0)])[0]
          for position in promptLength..<(promptLength + new - 1) { token = decode([token, Tensor(position)])[0] }
        }
      }
    }
  }
}
