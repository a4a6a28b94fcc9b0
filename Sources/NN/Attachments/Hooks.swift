import ApusTensor

// Functions that see what goes into and comes out of a module.

extension Module {
  /// Calls `hook` with the module and its input before each call; what it returns takes the input's place, nil leaves it.
  ///
  /// Hooks on inputs run when a container (``Sequential``, ``Model``) or ``Layer/invoked(_:)`` calls the module, and in direct
  /// calls of the library's layers over one tensor; a module of your own calls ``received(_:)`` for that. A compiled function
  /// takes up the hooks that are there when it is traced. (PyTorch's `register_forward_pre_hook`.)
  @discardableResult
  public final func registerForwardPreHook(_ hook: @escaping (_ module: Module, _ input: Tensor) -> Tensor?) -> HookHandle {
    attached.add(hook, to: \.inputHooks)
  }

  /// Calls `hook` with the module and its output after each call; what it returns takes the output's place, nil leaves it.
  ///
  /// A module of your own that is called directly, not by a container, runs its hooks in ``recorded(_:)``. A compiled function
  /// takes up the hooks that are there when it is traced. (PyTorch's `register_forward_hook`.)
  @discardableResult
  public final func registerForwardHook(_ hook: @escaping (_ module: Module, _ output: Tensor) -> Tensor?) -> HookHandle {
    attached.add(hook, to: \.outputHooks)
  }

  /// Calls `hook` with the gradient by the module's output before it goes on into the module; what the hook returns takes its
  /// place, nil leaves it. (PyTorch's `register_full_backward_pre_hook`.)
  @discardableResult
  public final func registerFullBackwardPreHook(_ hook: @escaping (_ module: Module, _ gradient: Tensor) -> Tensor?) -> HookHandle
  {
    registerForwardHook { module, output in output.withGradientHook { gradient in hook(module, gradient) } }
  }

  /// Calls `hook` with the gradient by the module's input before it goes on to what made the input; what the hook returns takes
  /// its place, nil leaves it. Runs where hooks on inputs do. (PyTorch's `register_full_backward_hook`.)
  @discardableResult
  public final func registerFullBackwardHook(_ hook: @escaping (_ module: Module, _ gradient: Tensor) -> Tensor?) -> HookHandle {
    registerForwardPreHook { module, input in input.withGradientHook { gradient in hook(module, gradient) } }
  }

  /// For layers: the input after the module's hooks.
  @inline(__always) public final func received(_ input: Tensor) -> Tensor {
    guard let attachments else { return input }
    return attachments.entered(self, input)
  }

  /// The output after the module's hooks.
  @inline(__always) final func left(_ output: Tensor) -> Tensor {
    guard let attachments else { return output }
    return attachments.left(self, output)
  }
}

extension Layer {
  /// The output of a call with all hooks, as containers call their layers: a module of your own need not do anything for it.
  public func invoked(_ x: Tensor) -> Tensor {
    guard let attachments else { return recorded(self(x)) }
    return attachments.around(self, x) { recorded(self($0)) }
  }
}
