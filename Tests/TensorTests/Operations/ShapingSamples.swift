import ApusCPU

@testable import ApusTensor

extension OperationSamples {
  static let broadcast: [Sample] = [
    Sample(.broadcast([4, 3]), [Input([3])], all, gradients: [0]),
    Sample(.broadcast([2, 4, 3]), [Input([4, 1])], all, gradients: [0]),
    Sample(.broadcast([2, 3]), [Input([])], all, gradients: [0]),
    Sample(.broadcast([]), [Input([])], all, gradients: [0]),
    Sample(.broadcast([0, 3]), [Input([1, 3])], all, gradients: [0]),
    Sample(.broadcast([2, 3, 2, 2, 3]), [Input([3, 1, 2, 1])], all, gradients: [0]),
  ]

  static let reshape: [Sample] = [
    Sample(.reshape([6, 4]), [Input([2, 3, 4])], all, gradients: [0]),
    Sample(.reshape([2, 2, 1, 3, 2, 1]), [Input([4, 6])], all, gradients: [0]),
    Sample(.reshape([]), [Input([1, 1])], all, gradients: [0]),
    Sample(.reshape([1]), [Input([])], all, gradients: [0]),
    Sample(.reshape([0, 7]), [Input([3, 0])], all, gradients: [0]),
    Sample(.reshape([24]), [Input([2, 1, 3, 1, 4])], all, gradients: [0]),
  ]

  static let transpose: [Sample] = [
    Sample(.transpose([1, 0]), [Input([3, 5])], all, gradients: [0]),
    Sample(.transpose([2, 0, 1]), [Input([2, 3, 4])], all, gradients: [0]),
    Sample(.transpose([0]), [Input([4])], all, gradients: [0]),
    Sample(.transpose([]), [Input([])], all, gradients: [0]),
    Sample(.transpose([1, 2, 0]), [Input([2, 0, 3])], all, gradients: [0]),
    Sample(.transpose([4, 2, 0, 3, 1]), [Input([2, 1, 3, 2, 2])], all, gradients: [0]),
  ]

  static let slice: [Sample] = [
    Sample(.slice(start: [1, 0], size: [2, 3], step: [1, 2]), [Input([4, 5])], all, gradients: [0]),
    Sample(.slice(start: [2], size: [2], step: [3]), [Input([7])], all, gradients: [0]),
    Sample(.slice(start: [], size: [], step: []), [Input([])], all, gradients: [0]),
    Sample(.slice(start: [3, 1], size: [0, 2], step: [1, 1]), [Input([3, 4])], all, gradients: [0]),
    Sample(
      .slice(start: [0, 1, 0, 1, 0], size: [1, 2, 1, 1, 2], step: [1, 1, 2, 1, 2]), [Input([2, 3, 2, 2, 3])], all, gradients: [0]),
  ]

  static let pad: [Sample] = [
    Sample(.pad(low: [1, 0], high: [2, 1], interior: [0, 0]), [Input([2, 3]), Input([], seed: 4)], all, gradients: [0, 1]),
    Sample(
      .pad(low: [-1, 2], high: [1, -2], interior: [0, 0]), [Input([3, 4]), Input([], seed: 4)], all, gradients: [0, 1]),
    Sample(.pad(low: [1, 0], high: [0, 1], interior: [1, 2]), [Input([3, 2]), Input([], seed: 4)], all, gradients: [0, 1]),
    Sample(.pad(low: [-1], high: [-2], interior: [1]), [Input([4]), Input([], seed: 4)], all, gradients: [0, 1]),
    Sample(.pad(low: [-2], high: [-4], interior: [2]), [Input([4]), Input([], seed: 4)], all, gradients: [0, 1]),
    Sample(.pad(low: [], high: [], interior: []), [Input([]), Input([], seed: 4)], all, gradients: [0, 1]),
    Sample(.pad(low: [2, 0], high: [1, 1], interior: [1, 0]), [Input([0, 2]), Input([], seed: 4)], all, gradients: [0, 1]),
    Sample(
      .pad(low: [0, 1, 0, 0, 1], high: [1, 0, 0, 1, 0], interior: [0, 0, 1, 0, 0]),
      [Input([1, 2, 2, 1, 2]), Input([], seed: 4)], all,
      gradients: [0, 1]),
  ]

  static let concatenate: [Sample] = [
    Sample(.concatenate(axis: 0), [Input([2, 3]), Input([1, 3], seed: 1)], all, gradients: [0, 1]),
    Sample(
      .concatenate(axis: 1), [Input([2, 3]), Input([2, 0], seed: 1), Input([2, 2], seed: 2)], all, gradients: [0, 1, 2]),
    Sample(
      .concatenate(axis: 1),
      [
        Input([2, 1, 2]), Input([2, 2, 2], seed: 1), Input([2, 1, 2], seed: 2), Input([2, 1, 2], seed: 3),
        Input([2, 3, 2], seed: 4),
      ], all,
      gradients: [0, 1, 2, 3, 4]),
    Sample(.concatenate(axis: 0), [Input([5])], all, gradients: [0]),
    Sample(.concatenate(axis: 4), [Input([1, 2, 1, 2, 2]), Input([1, 2, 1, 2, 1], seed: 1)], all, gradients: [0, 1]),
  ]

  static let reverse: [Sample] = [
    Sample(.reverse([0]), [Input([5])], all, gradients: [0]),
    Sample(.reverse([0, 2]), [Input([2, 3, 4])], all, gradients: [0]),
    Sample(.reverse([]), [Input([])], all, gradients: [0]),
    Sample(.reverse([1]), [Input([2, 0])], all, gradients: [0]),
    Sample(.reverse([3, 1]), [Input([2, 3, 1, 2, 2])], all, gradients: [0]),
  ]

  static let dynamicSlice: [Sample] = [
    Sample(.dynamicSlice(size: [2, 2]), [Input([4, 5]), .indices([2], .list([1, 2]))], all, gradients: [0]),
    Sample(.dynamicSlice(size: [2, 2]), [Input([4, 5]), .indices([2], .list([9, -3]))], all, gradients: [0]),
    Sample(.dynamicSlice(size: []), [Input([]), .indices([0], .list([]))], all, gradients: [0]),
    Sample(.dynamicSlice(size: [0, 2]), [Input([3, 2]), .indices([2], .list([1, 0]))], all, gradients: [0]),
  ]

  static let dynamicUpdateSlice: [Sample] = [
    Sample(
      .dynamicUpdateSlice, [Input([4, 5]), Input([2, 3], seed: 2), .indices([2], .list([1, 2]))], all, gradients: [0, 1]),
    Sample(
      .dynamicUpdateSlice, [Input([4, 5]), Input([2, 2], seed: 2), .indices([2], .list([9, -3]))], all, gradients: [0, 1]),
    Sample(.dynamicUpdateSlice, [Input([]), Input([], seed: 2), .indices([0], .list([]))], all, gradients: [0, 1]),
    Sample(
      .dynamicUpdateSlice, [Input([3, 2]), Input([0, 2], seed: 2), .indices([2], .list([1, 0]))], all, gradients: [0, 1]),
  ]

  static let triangle: [Sample] = [
    Sample(.triangle(upper: false, diagonal: 0), [Input([4, 5])], all, gradients: [0]),
    Sample(.triangle(upper: true, diagonal: 1), [Input([2, 5, 3])], all, gradients: [0]),
    Sample(.triangle(upper: false, diagonal: -2), [Input([3, 3])], all, gradients: [0]),
    Sample(.triangle(upper: true, diagonal: -9), [Input([2, 3])], all, gradients: [0]),
    Sample(.triangle(upper: false, diagonal: 0), [Input([2, 0])], all, gradients: [0]),
  ]

  static let stopGradient: [Sample] = [
    Sample(.stopGradient, [Input([2, 3])], all), Sample(.stopGradient, [Input([])], all),
    Sample(.stopGradient, [Input([0])], all),
  ]
}
