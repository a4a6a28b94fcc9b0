import Testing

/// Parent of the suites that set the process's instruction set or thread count: they run one after another.
@Suite(.serialized) struct KernelStateTests {}
