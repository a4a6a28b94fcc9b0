/// The files of the status page, which are part of the program: `Page`.
enum StatusPage {
  struct File: Sendable {
    var paths: [String]
    var type: String
    var bytes: [UInt8]
  }

  static let files: [File] = [
    File(paths: ["/", "/status"], type: "text/html; charset=utf-8", bytes: PackageResources.index_html)
  ]
}
