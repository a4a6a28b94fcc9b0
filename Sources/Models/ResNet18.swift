import ApusNN
import ApusTensor

/// ResNet-18 (He et al. 2016): images [batch, 3, height, width] → logits [batch, classes].
///
/// Structure and names of parameters are torchvision's: conv1, bn1, layer1.0.conv1 …, layer2.0.downsample.0 …, fc. Sizes are the
/// paper's for images of 224 × 224; any of 32 × 32 or more will do.
public final class ResNet18: Module, Layer {
  private let conv1: Conv2d
  private let bn1: BatchNorm2d
  private let maxpool = MaxPool2d(3, stride: 2, padding: 1)
  private let layer1, layer2, layer3, layer4: [BasicBlock]
  private let avgpool = AdaptiveAvgPool2d(1)
  private let fc: Linear

  /// - Parameter width: the channels of the first blocks; the paper's 64 by default.
  public init(
    classes: Int = 1000, width: Int = 64, elementType: ElementType = .float32, generator: Generator = .default
  ) {
    func blocks(_ input: Int, _ output: Int, stride: Int) -> [BasicBlock] {
      [
        BasicBlock(input, output, stride: stride, elementType, generator),
        BasicBlock(output, output, stride: 1, elementType, generator),
      ]
    }
    conv1 = convolution(3, width, kernelSize: 7, stride: 2, elementType, generator)
    bn1 = BatchNorm2d(width, elementType: elementType)
    layer1 = blocks(width, width, stride: 1)
    layer2 = blocks(width, 2 * width, stride: 2)
    layer3 = blocks(2 * width, 4 * width, stride: 2)
    layer4 = blocks(4 * width, 8 * width, stride: 2)
    fc = Linear(8 * width, classes, elementType: elementType, generator: generator)
  }

  public func callAsFunction(_ x: Tensor) -> Tensor {
    var x = maxpool(relu(bn1(conv1(x))))
    for block in layer1 + layer2 + layer3 + layer4 { x = block(x) }
    return recorded(fc(avgpool(x).flattened(from: 1)))
  }
}

/// Two convolutions beside a shortcut: relu(bn2(conv2(relu(bn1(conv1(x))))) + shortcut(x)).
final class BasicBlock: Module, Layer {
  // In torchvision's order.
  private let conv1: Conv2d
  private let bn1: BatchNorm2d
  private let conv2: Conv2d
  private let bn2: BatchNorm2d
  /// What brings the shortcut to the output's size.
  private let downsample: Sequential?

  init(_ input: Int, _ output: Int, stride: Int, _ elementType: ElementType, _ generator: Generator) {
    conv1 = convolution(input, output, kernelSize: 3, stride: stride, elementType, generator)
    bn1 = BatchNorm2d(output, elementType: elementType)
    conv2 = convolution(output, output, kernelSize: 3, stride: 1, elementType, generator)
    bn2 = BatchNorm2d(output, elementType: elementType)
    downsample =
      input == output && stride == 1
      ? nil
      : Sequential(
        convolution(input, output, kernelSize: 1, stride: stride, elementType, generator),
        BatchNorm2d(output, elementType: elementType))
  }

  func callAsFunction(_ x: Tensor) -> Tensor {
    let y = bn2(conv2(relu(bn1(conv1(x)))))
    return recorded(relu(y + (downsample?(x) ?? x)))
  }
}

/// Without bias and padded to cover the image; initially normal by the outputs' fan (He et al. 2015), as in torchvision.
private func convolution(
  _ input: Int, _ output: Int, kernelSize: Int, stride: Int, _ elementType: ElementType, _ generator: Generator
) -> Conv2d {
  let layer = Conv2d(
    input, output, kernelSize: kernelSize, stride: stride, padding: kernelSize / 2, bias: false, elementType: elementType,
    generator: generator)
  layer.weight.initialize(.kaimingNormal(mode: .fanOut), generator: generator)
  return layer
}
