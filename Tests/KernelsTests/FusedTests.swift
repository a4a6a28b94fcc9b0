import CApusKernels
import Foundation
import Testing

/// Fused kernels against their definitions in float64; gradients against central differences.
@Suite("Fused kernels")
struct FusedTests {
  static let f32 = Int32(APUS_F32.rawValue)
  static let f64 = Int32(APUS_F64.rawValue)
  static func values(_ count: Int, _ seed: Int) -> [Double] {
    (0..<count).map { Double(($0 &* 7919 &+ seed &* 104_729) % 2003) / 500 - 2 }
  }
  static func close(_ a: Double, _ b: Double, _ tolerance: Double) -> Bool { abs(a - b) <= tolerance * (1 + abs(b)) }

  /// d/dx of Σ weight·f(x) by central differences: error about h² plus 10⁻¹⁶/h, so 10⁻⁹ at h = 10⁻⁵.
  static func slope(_ x: [Double], _ weight: [Double], _ f: ([Double]) -> [Double]) -> [Double] {
    x.indices.map { i in
      var (up, down) = (x, x)
      up[i] += 1e-5
      down[i] -= 1e-5
      let difference = zip(weight, zip(f(up), f(down))).reduce(0) { $0 + $1.0 * ($1.1.0 - $1.1.1) }
      return difference / 2e-5
    }
  }

  static func softmax(_ x: [Double], _ cols: Int, log: Bool) -> [Double] {
    var y = x
    apus_softmax(log, f64, Int64(x.count / cols), Int64(cols), x, Int64(cols * 8), &y, Int64(cols * 8))
    return y
  }

  @Test("Softmax and logSoftmax, their gradients, logSumExp", arguments: [(4, 3), (2, 17), (3, 1000)])
  func softmax(_ rows: Int, _ cols: Int) {
    let x = Self.values(rows * cols, 1)
    let single = x.map { Float($0) }
    var sums = [Double](repeating: 0, count: rows)
    apus_log_sum_exp(Self.f64, Int64(rows), Int64(cols), x, Int64(cols * 8), &sums)
    for log in [false, true] {
      let y = Self.softmax(x, cols, log: log)
      var narrow = single
      apus_softmax(log, Self.f32, Int64(rows), Int64(cols), single, Int64(cols * 4), &narrow, Int64(cols * 4))
      for r in 0..<rows {
        let total = Foundation.log(x[r * cols..<(r + 1) * cols].reduce(0) { $0 + exp($1) })
        #expect(Self.close(sums[r], total, 1e-14))
        for c in 0..<cols {
          let want = log ? x[r * cols + c] - total : exp(x[r * cols + c] - total)
          #expect(Self.close(y[r * cols + c], want, 1e-14))
          #expect(Self.close(Double(narrow[r * cols + c]), want, 2e-6))
        }
      }
      let dy = Self.values(rows * cols, 2)
      var dx = dy
      apus_softmax_grad(log, Self.f64, Int64(rows), Int64(cols), y, Int64(cols * 8), dy, Int64(cols * 8), &dx, Int64(cols * 8))
      if cols < 100 {
        let want = Self.slope(x, dy) { Self.softmax($0, cols, log: log) }
        for i in x.indices { #expect(Self.close(dx[i], want[i], 1e-8)) }
      }
    }
  }

  @Test("Extreme rows of softmax")
  func extremes() {
    let x: [Float] = [1e30, 0, -.infinity, -.infinity, -.infinity, -.infinity]
    var y = x
    apus_softmax(false, Self.f32, 2, 3, x, 12, &y, 12)
    #expect(y[0] == 1 && y[1] == 0 && y[2] == 0 && y[3].isNaN)
    var sums: [Float] = [0, 0]
    apus_log_sum_exp(Self.f32, 2, 3, x, 12, &sums)
    #expect(sums == [1e30, -.infinity])
  }

  @Test("Layer norm and RMS norm with their gradients", arguments: [(3, 5), (70, 5)])
  func normalization(_ rows: Int, _ cols: Int) {
    let x = Self.values(rows * cols, 3), gamma = Self.values(cols, 4), beta = Self.values(cols, 5),
      dy = Self.values(rows * cols, 6)
    let (r, c, stride) = (Int64(rows), Int64(cols), Int64(cols * 8))
    for rms in [false, true] {
      var mean = [Double](repeating: 0, count: rows), rstd = mean
      func forward(_ x: [Double], _ gamma: [Double], _ beta: [Double]) -> [Double] {
        var y = x
        if rms {
          apus_rms_norm(Self.f64, r, c, x, stride, gamma, 1e-5, &y, stride, &rstd)
        } else {
          apus_layer_norm(Self.f64, r, c, x, stride, gamma, beta, 1e-5, &y, stride, &mean, &rstd)
        }
        return y
      }
      let y = forward(x, gamma, beta)
      for row in 0..<rows {
        let part = x[row * cols..<(row + 1) * cols]
        let m = rms ? 0 : part.reduce(0, +) / Double(cols)
        let scale = 1 / (part.reduce(0) { $0 + ($1 - m) * ($1 - m) } / Double(cols) + 1e-5).squareRoot()
        for col in 0..<cols {
          #expect(Self.close(y[row * cols + col], (x[row * cols + col] - m) * scale * gamma[col] + (rms ? 0 : beta[col]), 1e-13))
        }
      }
      var dx = x, dgamma = gamma, dbeta = beta
      if rms {
        apus_rms_norm_grad(Self.f64, r, c, x, stride, dy, stride, gamma, rstd, &dx, stride, &dgamma)
      } else {
        apus_layer_norm_grad(Self.f64, r, c, x, stride, dy, stride, gamma, mean, rstd, &dx, stride, &dgamma, &dbeta)
      }
      let wantX = Self.slope(x, dy) { forward($0, gamma, beta) }
      let wantGamma = Self.slope(gamma, dy) { forward(x, $0, beta) }
      for i in x.indices { #expect(Self.close(dx[i], wantX[i], 1e-7)) }
      for i in gamma.indices {
        #expect(Self.close(dgamma[i], wantGamma[i], 1e-7))
        if !rms { #expect(Self.close(dbeta[i], (0..<rows).reduce(0) { $0 + dy[$1 * cols + i] }, 1e-12)) }
      }
    }
  }

  @Test("Cross entropy: ignored rows, smoothing, gradient, labels out of range", arguments: [0.0, 0.1])
  func crossEntropy(_ smoothing: Double) {
    let (rows, cols) = (4, 6)
    let x = Self.values(rows * cols, 7), dloss = Self.values(rows, 8)
    let labels: [Int64] = [5, -100, 0, 3]
    var loss = dloss, lse = dloss
    func forward(_ x: [Double]) -> [Double] {
      #expect(apus_cross_entropy(Self.f64, 4, 6, x, 48, labels, Int32(APUS_I64.rawValue), -100, smoothing, &loss, &lse) == -1)
      return loss
    }
    let want = Self.slope(x, dloss, forward)
    let result = forward(x)
    let logs = Self.softmax(x, cols, log: true)
    for r in 0..<rows where labels[r] >= 0 {
      let row = logs[r * cols..<(r + 1) * cols]
      let expected = -(1 - smoothing) * logs[r * cols + Int(labels[r])] - smoothing * row.reduce(0, +) / Double(cols)
      #expect(Self.close(result[r], expected, 1e-13))
    }
    #expect(result[1] == 0)
    var dx = x
    apus_cross_entropy_grad(Self.f64, 4, 6, x, 48, labels, Int32(APUS_I64.rawValue), -100, smoothing, lse, dloss, 8, &dx, 48)
    for i in x.indices { #expect(Self.close(dx[i], want[i], 1e-8)) }
    #expect(
      apus_cross_entropy(Self.f64, 4, 6, x, 48, [0, 6, 1, 2] as [Int32], Int32(APUS_I32.rawValue), -100, 0, &loss, nil) == 1)
  }

  @Test("Batch norm in both layouts, with and without relu, and its gradient", arguments: [false, true], [false, true])
  func batchNorm(_ channelsLast: Bool, _ relu: Bool) {
    let (outer, channels, inner) = channelsLast ? (6, 5, 1) : (2, 5, 3)
    let count = Int64(outer * inner)
    let x = Self.values(30, 9), gamma = Self.values(5, 10).map { abs($0) + 0.5 }, beta = Self.values(5, 11),
      dy = Self.values(30, 12)
    var mean = beta, rstd = beta
    func channel(_ i: Int) -> Int { channelsLast ? i % channels : i / inner % channels }
    func forward(_ x: [Double], _ gamma: [Double]) -> [Double] {
      var variance = beta, y = x
      apus_batch_norm_statistics(Self.f64, Int64(outer), Int64(channels), Int64(inner), x, &mean, &variance)
      rstd = variance.map { 1 / ($0 + 1e-5).squareRoot() }
      let scale = zip(gamma, rstd).map { $0 * $1 }
      apus_batch_norm_apply(Self.f64, Int64(outer), Int64(channels), Int64(inner), x, mean, scale, beta, relu, &y)
      return y
    }
    let y = forward(x, gamma)
    for c in 0..<channels {
      let members = x.indices.filter { channel($0) == c }
      let m = members.reduce(0) { $0 + x[$1] } / Double(count)
      let v = members.reduce(0) { $0 + (x[$1] - m) * (x[$1] - m) } / Double(count)
      for i in members {
        let want = (x[i] - m) / (v + 1e-5).squareRoot() * gamma[c] + beta[c]
        #expect(Self.close(y[i], relu ? max(want, 0) : want, 1e-13))
      }
    }
    var dx = x, dgamma = gamma, dbeta = beta
    let wantX = Self.slope(x, dy) { forward($0, gamma) }, wantGamma = Self.slope(gamma, dy) { forward(x, $0) }
    _ = forward(x, gamma)
    y.withUnsafeBufferPointer {
      apus_batch_norm_grad(
        Self.f64, Int64(outer), Int64(channels), Int64(inner), x, dy, relu ? $0.baseAddress : nil, mean, rstd, gamma, true, &dx,
        &dgamma,
        &dbeta)
    }
    for i in x.indices { #expect(Self.close(dx[i], wantX[i], 1e-7)) }
    for c in 0..<channels { #expect(Self.close(dgamma[c], wantGamma[c], 1e-7)) }
  }

  /// Runs `steps` steps on one tensor in place; gradient = parameter + 0.1·step.
  static func train(
    _ step: (Int32, Int64, UnsafePointer<apus_optimizer_tensor>?, UnsafePointer<apus_optimizer_options>?) -> Void,
    _ start: [Double],
    _ options: apus_optimizer_options, steps: Int
  ) -> [Double] {
    var p = start, first = [Double](repeating: 0, count: start.count), second = first
    for i in 1...steps {
      let g = p.map { $0 + 0.1 * Double(i) }
      p.withUnsafeMutableBytes { pp in
        g.withUnsafeBytes { gp in
          first.withUnsafeMutableBytes { s0 in
            second.withUnsafeMutableBytes { s1 in
              var t = apus_optimizer_tensor()
              t.count = Int64(start.count)
              t.parameter = UnsafeRawPointer(pp.baseAddress)
              t.parameter_out = pp.baseAddress
              t.gradient = gp.baseAddress
              if i > 1 { t.state = (UnsafeRawPointer(s0.baseAddress), UnsafeRawPointer(s1.baseAddress), nil) }
              t.state_out = (s0.baseAddress, s1.baseAddress, nil)
              var o = options
              o.step = Int64(i)
              step(f64, 1, &t, &o)
            }
          }
        }
      }
    }
    return p
  }

  // Values printed by torch 2.13 (float64): p = [1, -2, 0.5], 3 steps, p.grad = p + 0.1·step; see optimizers.py beside this file.
  @Test("Optimizers give PyTorch's values")
  func optimizers() {
    let start = [1, -2, 0.5]
    var o = apus_optimizer_options()
    o.gradient_scale = 1
    (o.learning_rate, o.momentum, o.dampening, o.weight_decay) = (0.1, 0.9, 0.1, 0.01)
    let sgd = Self.train(apus_sgd_step, start, o, steps: 3)
    o = apus_optimizer_options()
    o.gradient_scale = 1
    (o.learning_rate, o.beta1, o.beta2, o.epsilon, o.weight_decay) = (0.01, 0.9, 0.999, 1e-8, 0.01)
    let adam = Self.train(apus_adam_step, start, o, steps: 3)
    o.decoupled_weight_decay = true
    let adamw = Self.train(apus_adam_step, start, o, steps: 3)
    (o.beta2, o.momentum, o.weight_decay) = (0.99, 0.9, 0)
    let rmsprop = Self.train(apus_rmsprop_step, start, o, steps: 3)
    for (got, want) in zip([sgd, adam, adamw, rmsprop], Self.expected) {
      for i in 0..<3 { #expect(Self.close(got[i], want[i], 1e-14)) }
    }
  }

  static let expected: [[Double]] = [
    [0.42170345809, -1.09328360048, 0.169205614995],
    [0.9699540202345617, -1.9700742365954511, 0.46995384279534824],
    [0.9696568863273274, -1.969478390113795, 0.4698071258367854],
    [0.5384784389172659, -1.552403815157216, 0.040398146305761565],
  ]
}
