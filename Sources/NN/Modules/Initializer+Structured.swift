import ApusTensor

// Initial values with a structure: identities, orthogonal and sparse matrices, Fourier transforms.

extension Initializer {
  /// gain on the diagonal of a matrix, zeros elsewhere; PyTorch's `eye_` and Keras's Identity.
  public static func identity(gain: Double = 1) -> Initializer {
    Initializer { shape, type, _ in
      guard shape.count == 2 else { stop("identity: makes matrices, not shape \(shape)") }
      return Tensor.eye(shape[0], shape[1], elementType: type) * gain
    }
  }

  /// A convolution's weight [out, in / groups, kernel…] that hands its input channels on as they are; PyTorch's `dirac_`.
  ///
  /// 1 in the middle of the kernel that leads from a channel to the one of the same number, within each group; output channels
  /// without a counterpart are 0.
  public static func dirac(groups: Int = 1) -> Initializer {
    Initializer { shape, type, _ in
      guard (3...5).contains(shape.count) else {
        stop("dirac: makes weights [out, in, kernel…] of 3 to 5 dimensions, not \(shape)")
      }
      guard groups > 0, shape[0] % groups == 0 else {
        stop("dirac: \(shape[0]) output channels are not divisible by \(groups) groups")
      }
      let kernel = Array(shape[2...])
      let counterpart = (Tensor.arange(shape[0]) % (shape[0] / groups)).expanded(at: 1) .== Tensor.arange(shape[1])
      var middle = Tensor.ones(Shape(repeating: 1, count: kernel.count), type)
      middle = middle.padded(kernel.map { ($0 / 2, $0 - 1 - $0 / 2) })
      return counterpart.converted(to: type).reshaped([shape[0], shape[1]] + kernel.map { _ in 1 }) * middle
    }
  }

  /// Normal, with the share `sparsity` of each column [out] set to zero, rounded up (Martens 2010); PyTorch's `sparse_`.
  public static func sparse(_ sparsity: Double, standardDeviation: Double = 0.01) -> Initializer {
    guard (0...1).contains(sparsity) else { stop("sparse: the share of zeros \(sparsity) is not in 0 … 1") }
    return Initializer { shape, type, generator in
      guard shape.count == 2 else { stop("sparse: makes matrices, not shape \(shape)") }
      let zeros = Int((sparsity * Double(shape[0])).rounded(.up))
      // The ranks of random numbers in each column are a random order.
      let ranks = Tensor.uniform(shape, .float64, generator: generator).argSort(axis: 0).argSort(axis: 0)
      let values = Tensor.normal(shape, standardDeviation: standardDeviation, type, generator: generator)
      return `where`(ranks .< zeros, 0, values)
    }
  }

  /// Orthonormal columns or, where there are more of them than rows, rows, times gain (Saxe et al. 2014).
  ///
  /// The weight [out, in, kernel…] counts as a matrix [out, in · kernel]. All such matrices are equally likely: the factor Q of
  /// a normally distributed matrix's decomposition QR with a positive diagonal of R.
  public static func orthogonal(gain: Double = 1) -> Initializer {
    Initializer { shape, type, generator in
      guard shape.count >= 2 else { stop("orthogonal: needs at least two dimensions, got shape \(shape)") }
      let (rows, columns) = (shape[0], shape[1...].reduce(1, *))
      if shape.elementCount == 0 { return Tensor.zeros(shape, type) }
      let tall = Tensor.randn([Swift.max(rows, columns), Swift.min(rows, columns)], .float64, generator: generator)
      let q = orthonormalColumns(tall)
      return ((rows < columns ? q.T : q) * gain).contiguous().reshaped(shape).converted(to: type)
    }
  }

  /// Which part of a Fourier transform.
  public enum FourierSide: Sendable { case real, imaginary }

  /// What a window is divided by: the root of the sum of its squares, or the sum of its absolute values.
  public enum WindowScaling: Sendable { case density, spectrum }

  /// The weight [bins, 1, frame] of a Conv1d that computes short-time Fourier transforms, bins = transform's length / 2 + 1:
  /// cos or sin of −2π · time · bin / length, times a window; Keras's STFT, whose kernels are [frame, 1, bins].
  public static func stft(
    _ side: FourierSide = .real, window: WindowFunction? = .hann, scaling: WindowScaling? = .density, periodic: Bool = false
  ) -> Initializer {
    Initializer { shape, type, _ in
      guard shape.count == 3, shape[1] == 1, shape[0] > 1 else {
        stop("stft: makes weights [bins, 1, frame] with at least two bins, not shape \(shape)")
      }
      let (bins, frame) = (shape[0], shape[2])
      let turns = Tensor.arange(bins, .float64).expanded(at: 1) * Tensor.arange(frame, .float64) / Double(2 * (bins - 1))
      let angles = turns * (-2 * Double.pi)
      var weight = side == .real ? cos(angles) : sin(angles)
      if let window {
        var values = window.values(frame, periodic: periodic)
        switch scaling {
        case .density: values = values / sqrt(square(values).sum())
        case .spectrum: values = values / abs(values).sum()
        case nil: break
        }
        weight = weight * values
      }
      return weight.expanded(at: 1).converted(to: type)
    }
  }
}

/// Weights over the length of a frame.
public enum WindowFunction: Sendable, Hashable {
  case hann, hamming, blackman, rectangular
  case values([Double])

  /// [count], float64. A periodic window is the first part of a symmetric one with one value more.
  func values(_ count: Int, periodic: Bool) -> Tensor {
    let coefficients: [Double]
    switch self {
    case .hann: coefficients = [0.5, 0.5]
    case .hamming: coefficients = [0.54, 0.46]
    case .blackman: coefficients = [0.42, 0.5, 0.08]
    case .rectangular: coefficients = [1]
    case .values(let values):
      guard values.count == count else { stop("a window of \(values.count) values is used on frames of \(count)") }
      return Tensor(elements: values)
    }
    if count == 1 { return Tensor.ones([1], .float64) }
    let angles = Tensor.arange(count, .float64) * (2 * Double.pi / Double(periodic ? count : count - 1))
    // Σ (−1)ᵏ aₖ cos(k · angle).
    return coefficients.enumerated().reduce(Tensor.zeros([count], .float64)) { sum, term in
      sum + cos(angles * term.offset) * (term.offset % 2 == 0 ? term.element : -term.element)
    }
  }
}

/// The factor Q of A = QR with a positive diagonal of R, for A [rows, columns] of full rank with rows ≥ columns.
///
/// Gram and Schmidt's method on blocks of columns, each projected twice: "twice is enough" for orthogonality to rounding
/// (Giraud et al. 2005). Its work is in matrix products.
package func orthonormalColumns(_ a: Tensor, block: Int = 32) -> Tensor {
  let type = a.elementType
  let a = a.detached().converted(to: .float64)
  let columns = a.shape[1]
  guard a.shape[0] >= columns else { stop("orthonormalColumns: needs no fewer rows than columns, got shape \(a.shape)") }
  var done: [Tensor] = []
  func project(_ x: Tensor, off basis: [Tensor]) -> Tensor {
    guard !basis.isEmpty else { return x }
    let q = basis.count == 1 ? basis[0] : concatenate(basis, axis: 1)
    var x = x
    for _ in 0..<2 { x = x - q.matmul(q.T.matmul(x)) }
    return x
  }
  var start = 0
  while start < columns {
    let end = Swift.min(start + block, columns)
    let panel = project(a[0..., start..<end], off: done)
    var inside: [Tensor] = []
    for column in panel.split(size: 1, axis: 1) {
      let rest = project(column, off: inside)
      inside.append(rest / sqrt(square(rest).sum()))
    }
    // Columns of a panel may have come back into what was done before by their division: once more, from all.
    done.append(project(concatenate(inside, axis: 1), off: done))
    start = end
  }
  return concatenate(done, axis: 1).converted(to: type)
}
