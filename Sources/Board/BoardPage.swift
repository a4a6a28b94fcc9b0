import ApusPages

/// The files of the page, which are part of the program: `Page` beside this file.
enum BoardPage {
  struct File: Sendable {
    var path, type: String
    var bytes: [UInt8]
  }

  static let files: [File] = [
    File(path: "/", type: "text/html; charset=utf-8", bytes: PackageResources.index_html),
    File(path: "/base.css", type: "text/css; charset=utf-8", bytes: SharedPage.css),
    File(path: "/elements.js", type: "text/javascript; charset=utf-8", bytes: SharedPage.script),
    File(path: "/board.css", type: "text/css; charset=utf-8", bytes: PackageResources.board_css),
    File(path: "/main.js", type: "text/javascript; charset=utf-8", bytes: PackageResources.main_js),
    File(path: "/chart.js", type: "text/javascript; charset=utf-8", bytes: PackageResources.chart_js),
    File(path: "/histogram.js", type: "text/javascript; charset=utf-8", bytes: PackageResources.histogram_js),
    File(path: "/media.js", type: "text/javascript; charset=utf-8", bytes: PackageResources.media_js),
    File(path: "/tables.js", type: "text/javascript; charset=utf-8", bytes: PackageResources.tables_js),
    File(path: "/common.js", type: "text/javascript; charset=utf-8", bytes: PackageResources.common_js),
  ]
}
