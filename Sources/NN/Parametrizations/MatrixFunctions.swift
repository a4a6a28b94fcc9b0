import ApusTensor

// Functions of whole matrices […, n, n], made of matrix products. They work in compiled functions and have gradients.

/// e^A by scaling and squaring: A / 2ˢ has at most half the norm of 1, there a polynomial of degree 15 is exact to rounding.
func matrixExponential(_ a: Tensor) -> Tensor {
  let n = a.shape[a.rank - 1]
  // The largest sum of a column of |A| bounds A's eigenvalues.
  let norm = abs(a.detached()).sum(axis: -2).max()
  // A traced function does not know the norm: it has squarings for the largest sensible one and leaves out what it does not need.
  let most = 24
  let squarings = ceil(log2(maximum(norm * 2, 1)))
  let count = isTracing ? most : Swift.max(0, Swift.min(most, Int(squarings.item(as: Double.self).rounded(.up))))
  let x = isTracing ? a * exp2(-squarings) : a * exp2(Double(-count))
  // Paterson and Stockmeyer: powers up to the fourth, and Horner's rule in the fourth.
  let x2 = x.matmul(x)
  let powers = [Tensor.eye(n, elementType: a.elementType), x, x2, x2.matmul(x)]
  let x4 = x2.matmul(x2)
  var coefficients = [1.0]
  for k in 1...15 { coefficients.append(coefficients[k - 1] / Double(k)) }
  var y: Tensor?
  for block in (0..<4).reversed() {
    let part = (1..<4).reduce(powers[0] * coefficients[4 * block]) { $0 + powers[$1] * coefficients[4 * block + $1] }
    y = y.map { $0.matmul(x4) + part } ?? part
  }
  var result = y ?? powers[0]
  for i in 0..<count {
    let squared = result.matmul(result)
    result = isTracing ? `where`(squarings .> Double(i), squared, result) : squared
  }
  return result
}

private func exp2(_ x: Double) -> Double { x < 0 ? 1 / exp2(-x) : Double(sign: .plus, exponent: Int(x), significand: 1) }

/// A⁻¹ by blocks without pivots, for A whose symmetric part (A + Aᵀ) / 2 is positive definite: then all of its blocks and their
/// complements are, too.
func inverseOfPositive(_ a: Tensor) -> Tensor {
  customGradient(a, name: "inverse") { a in
    let y = blockInverse(a)
    return (y, { dy in -y.transposed().matmul(dy).matmul(y.transposed()) })
  }
}

/// (A B; C D)⁻¹ by the complement S = D − C A⁻¹ B.
private func blockInverse(_ m: Tensor) -> Tensor {
  let n = m.shape[m.rank - 1]
  if n == 1 { return reciprocal(m) }
  let sizes = [n / 2, n - n / 2]
  let rows = m.split(sizes, axis: -2).map { $0.split(sizes, axis: -1) }
  let (b, c) = (rows[0][1], rows[1][0])
  let a = blockInverse(rows[0][0])
  let ab = a.matmul(b)
  let ca = c.matmul(a)
  let s = blockInverse(rows[1][1] - c.matmul(ab))
  let sca = s.matmul(ca)
  return concatenate(
    [
      concatenate([a + ab.matmul(sca), -ab.matmul(s)], axis: -1),
      concatenate([-sca, s], axis: -1),
    ], axis: -2)
}

/// The first k columns of H₁ H₂ … Hₖ, Hᵢ = I − 2 vᵢ vᵢᵀ / ‖vᵢ‖², for vectors with 1 on the diagonal and zeros above:
/// […, n, k] → […, n, k]. Only what is below the diagonal of `a` counts.
///
/// The product is I − V T Vᵀ with T⁻¹ = the part of VᵀV above the diagonal and half of the diagonal (Puglisi 1992).
func householderProduct(_ a: Tensor) -> Tensor {
  let (n, k) = (a.shape[a.rank - 2], a.shape[a.rank - 1])
  let identity = Tensor.eye(n, k, elementType: a.elementType)
  let v = a.lowerTriangle(diagonal: -1) + identity
  let products = v.transposed().matmul(v)
  let inverse = products.upperTriangle(diagonal: 1) + products * (Tensor.eye(k, elementType: a.elementType) * 0.5)
  let top = v.split([k, n - k], axis: -2)[0]
  return identity - v.matmul(inverseOfPositive(inverse)).matmul(top.transposed())
}

/// Vectors vᵢ and signs of a matrix [n, k] with orthonormal columns, n ≥ k: ``householderProduct(_:)`` of what is below the
/// diagonal, its columns times the diagonal, is the matrix.
func householderVectors(of q: Tensor) -> Tensor {
  let (n, k) = (q.shape[0], q.shape[1])
  var rest = q.detached().converted(to: .float64)
  var columns: [Tensor] = []
  for j in 0..<k {
    let below = Tensor.arange(n) .> j
    let x = rest[0..., j]
    let alpha = x[j]
    let length = sqrt(square(`where`(Tensor.arange(n) .>= j, x, 0)).sum())
    // LAPACK's choice: nothing cancels. A column that is right already is left as it is: its vector would be 0.
    let beta = `where`(alpha .> 0, -length, length)
    let v = `where`(below, x, 0) / (alpha - beta)
    let unit = v + Tensor.oneHot(Tensor(j), classes: n, .float64)
    let scale = 2 / square(unit).sum()
    rest = rest - unit.expanded(at: 1) * (unit.expanded(at: 0).matmul(rest) * scale)
    columns.append(v + Tensor.oneHot(Tensor(j), classes: n, .float64) * sign(beta))
  }
  return stack(columns, axis: 1).converted(to: q.elementType)
}
