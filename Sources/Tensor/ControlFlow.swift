extension Operation {
  func propagateControlFlow(_ gradients: [Tensor?], _ sink: GradientSink) {
    missingGradient()
  }
}
