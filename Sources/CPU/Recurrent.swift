import ApusIR
import CApusKernels

extension CPU {
  /// Rows and elements of a row-major state.
  private static func state(_ x: CPUArray) -> (rows: Int64, n: Int64) {
    (Int64(x.shape.dropLast().reduce(1, *)), Int64(x.shape[x.shape.count - 1]))
  }

  static func run(lstmCell inputs: [CPUArray], _ out: [CPUArray]) {
    let (gates, cell) = (inputs[0].rowMajor(), inputs[1].rowMajor())
    let (rows, n) = state(cell)
    apus_lstm_cell(cell.elementType.code, rows, n, gates.pointer, cell.pointer, out[0].pointer, out[1].pointer)
  }

  static func run(lstmCellGradient inputs: [CPUArray], _ out: [CPUArray]) {
    let x = inputs.map { $0.rowMajor() }
    let (rows, n) = state(x[3])
    apus_lstm_cell_grad(
      x[3].elementType.code, rows, n, x[0].pointer, x[1].pointer, x[2].pointer, x[3].pointer, out[0].pointer, out[1].pointer)
  }

  static func run(gruCell inputs: [CPUArray], _ out: CPUArray) {
    let x = inputs.map { $0.rowMajor() }
    let (rows, n) = state(x[2])
    apus_gru_cell(x[2].elementType.code, rows, n, x[0].pointer, x[1].pointer, x[2].pointer, out.pointer)
  }

  static func run(gruCellGradient inputs: [CPUArray], _ out: [CPUArray]) {
    let x = inputs.map { $0.rowMajor() }
    let (rows, n) = state(x[3])
    apus_gru_cell_grad(
      x[3].elementType.code, rows, n, x[0].pointer, x[1].pointer, x[2].pointer, x[3].pointer, out[0].pointer, out[1].pointer,
      out[2].pointer)
  }
}
