import ApusPages

/// The files of the status page, which are part of the program: the folder `Page`. They hold nothing of the models.
enum StatusPage {
  struct File: Sendable {
    var paths: [String]
    var type: String
    var bytes: [UInt8]
  }

  static let files: [File] = [
    File(paths: ["/", "/status"], type: "text/html; charset=utf-8", bytes: PackageResources.index_html),
    File(paths: ["/status/base.css"], type: "text/css; charset=utf-8", bytes: SharedPage.css),
    File(paths: ["/status/status.css"], type: "text/css; charset=utf-8", bytes: PackageResources.status_css),
    File(paths: ["/status/elements.js"], type: "text/javascript; charset=utf-8", bytes: SharedPage.script),
    File(paths: ["/status/main.js"], type: "text/javascript; charset=utf-8", bytes: PackageResources.main_js),
    File(paths: ["/status/server.js"], type: "text/javascript; charset=utf-8", bytes: PackageResources.server_js),
    File(paths: ["/status/charts.js"], type: "text/javascript; charset=utf-8", bytes: PackageResources.charts_js),
    File(paths: ["/status/form.js"], type: "text/javascript; charset=utf-8", bytes: PackageResources.form_js),
    File(paths: ["/status/outputs.js"], type: "text/javascript; charset=utf-8", bytes: PackageResources.outputs_js),
    File(paths: ["/status/pictures.js"], type: "text/javascript; charset=utf-8", bytes: PackageResources.pictures_js),
  ]

  private static let paths = Set(files.flatMap(\.paths))

  /// Whether a path, without its query, is one of the page's files: they may be given to anybody, since what they show is asked for
  /// separately.
  static func isFile(path: String) -> Bool { paths.contains(path) }
}
