import ApusTensor

/// √ of the sum of all squares, of x's type: [].
func wholeNorm(_ x: Tensor) -> Tensor { sqrt(square(x).flattened().sum()) }
