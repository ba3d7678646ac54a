#include "server/http_endpoint.h"

#include <httplib.h>
#include <sys/socket.h>

#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"

namespace adrank {

struct HttpEndpoint::Impl {
  httplib::Server server;
  Pages pages;
  int port = 0;
  std::thread thread;
};

HttpEndpoint::HttpEndpoint(std::unique_ptr<Impl> impl)
    : impl_(std::move(impl)) {}

absl::StatusOr<std::unique_ptr<HttpEndpoint>> HttpEndpoint::Start(
    const std::string& address, int port, Pages pages) {
  auto impl = std::make_unique<Impl>();
  impl->pages = std::move(pages);
  // A connection has its thread for as long as it is open: idle ones of some
  // probes and scrapers must not make a health check wait.
  impl->server.new_task_queue = [] { return new httplib::ThreadPool(16); };
  // The default shares the port with any other process that asks for it.
  impl->server.set_socket_options([](socket_t socket) {
    const int yes = 1;
    setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
  });
  impl->server.set_keep_alive_timeout(1);
  impl->server.set_read_timeout(1);
  impl->server.set_write_timeout(5);
  impl->server.set_payload_max_length(4096);
  const Pages& p = impl->pages;
  impl->server.Get(
      "/metrics", [&p](const httplib::Request&, httplib::Response& response) {
        response.set_content(p.metrics(), "text/plain; version=0.0.4");
      });
  impl->server.Get("/healthz",
                   [](const httplib::Request&, httplib::Response& response) {
                     response.set_content("ok\n", "text/plain");
                   });
  impl->server.Get(
      "/readyz", [&p](const httplib::Request&, httplib::Response& response) {
        const bool ready = p.ready();
        response.status = ready ? 200 : 503;
        response.set_content(ready ? "ready\n" : "not ready\n", "text/plain");
      });
  impl->server.Get("/status",
                   [&p](const httplib::Request&, httplib::Response& response) {
                     response.set_content(p.status(), "application/json");
                   });
  if (port < 0) {
    impl->port = impl->server.bind_to_any_port(address.c_str());
  } else if (impl->server.bind_to_port(address.c_str(), port)) {
    impl->port = port;
  }
  if (impl->port <= 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("listen: cannot listen on ", address, ":", port,
                     " (HTTP): address in use, or not of this machine?"));
  }
  impl->thread =
      std::thread([server = &impl->server] { server->listen_after_bind(); });
  while (!impl->server.is_running()) std::this_thread::yield();
  return std::unique_ptr<HttpEndpoint>(new HttpEndpoint(std::move(impl)));
}

HttpEndpoint::~HttpEndpoint() {
  impl_->server.stop();
  impl_->thread.join();
}

int HttpEndpoint::port() const { return impl_->port; }

}  // namespace adrank
