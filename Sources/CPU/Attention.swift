import ApusIR
import CApusKernels

extension CPU {
  /// With adjacent elements in the last dimension, as the kernels read rows.
  private static func withRows(_ x: CPUArray) -> CPUArray {
    let last = x.shape.count - 1
    return x.shape[last] == 1 || x.strides[last] == 1 ? x : x.copy()
  }

  private static func heads(_ x: CPUArray) -> apus_heads {
    let s = x.strides
    return apus_heads(data: x.pointer, strides: (Int64(s[0]), Int64(s[1]), Int64(s[2]), Int64(s[3])))
  }

  private static func attention(
    _ q: CPUArray, _ k: CPUArray, _ v: CPUArray, _ mask: CPUArray?, _ scale: Double, _ causal: Bool
  ) -> apus_attention {
    var a = apus_attention()
    a.type = q.elementType.code
    a.causal = causal
    a.scale = scale
    (a.batch, a.heads, a.kv_heads) = (Int64(q.shape[0]), Int64(q.shape[1]), Int64(k.shape[1]))
    (a.queries, a.keys) = (Int64(q.shape[2]), Int64(k.shape[2]))
    (a.dim, a.value_dim) = (Int64(q.shape[3]), Int64(v.shape[3]))
    (a.q, a.k, a.v) = (heads(q), heads(k), heads(v))
    if let mask {
      a.mask = heads(mask)
      a.mask_type = mask.elementType.code
    }
    return a
  }

  static func run(attention inputs: [CPUArray], _ scale: Double, _ causal: Bool, _ outs: [CPUArray]) {
    let (q, k, v) = (withRows(inputs[0]), withRows(inputs[1]), withRows(inputs[2]))
    let mask = inputs.count > 3 ? inputs[3] : nil
    let (y, lse) = (outs[0], outs[1])
    withExtendedLifetime((q, k, v, mask)) {
      var a = attention(q, k, v, mask, scale, causal)
      apus_attention_run(&a, heads(y), lse.pointer)
    }
  }

  static func run(attentionGradient inputs: [CPUArray], _ scale: Double, _ causal: Bool, forMask: Bool, _ outs: [CPUArray]) {
    let (dy, q, k, v) = (withRows(inputs[0]), withRows(inputs[1]), withRows(inputs[2]), withRows(inputs[3]))
    let (y, lse) = (withRows(inputs[4]), inputs[5].rowMajor())
    let mask = inputs.count > 6 ? inputs[6] : nil
    let (dq, dk, dv) = (outs[0], outs[1], outs[2])
    let dmask = forMask ? outs[3] : nil
    withExtendedLifetime((dy, q, k, v, y, lse, mask)) {
      var a = attention(q, k, v, mask, scale, causal)
      apus_attention_grad(&a, heads(dy), heads(y), lse.pointer, heads(dq), heads(dk), heads(dv), dmask?.pointer)
    }
  }

  static func run(rope x: CPUArray, _ cos: CPUArray, _ sin: CPUArray, interleaved: Bool, inverse: Bool, _ y: CPUArray) {
    let (x, cos, sin) = (withRows(x), withRows(cos), withRows(sin))
    let last = x.shape.count - 1
    withDimensions(x.shape) { dims in
      x.withByteStrides { from in
        cos.withByteStrides { cosines in
          sin.withByteStrides { sines in
            y.withByteStrides { to in
              apus_rope(
                x.elementType.code, interleaved, inverse, Int32(last), dims, Int64(x.shape[last]), Int64(cos.shape[last]),
                x.pointer, from, cos.pointer, cosines, sin.pointer, sines, y.pointer, to)
            }
          }
        }
      }
    }
  }
}
