// Runs in the place of a frontend or the flusher, under all settings of its unit, and tries to get out. A line for each
// attempt, and an exit status of 1 where one got through:
//
//   cage_probe RING CACHE FOREIGN FILE...   ids of segments; files that are not for a frontend to read
//   cage_probe --uncaged [HOST PORT]        only what harms nothing: without the cage it must get through
//   cage_probe --flusher HOST PORT           in the flusher's place; an address that is none of its shards'
//   cage_probe --loader                     starts a shell by way of the dynamic loader, which it may execute
#include <arpa/inet.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

int escapes = 0;
int failures = 0;

/// `got_through`: the attempt was not refused; errno says otherwise why it was.
void report(bool got_through, const std::string& attempt) {
  const int number = errno;
  if (got_through) ++escapes;
  std::printf("%s: %s\n", attempt.c_str(), got_through ? "GOT THROUGH" : std::strerror(number));
}

/// What the program in whose place this runs lives by must go, or the refusals show nothing.
void expect(bool works, const char* what) {
  const int number = errno;
  if (!works) ++failures;
  std::printf("%s: %s\n", what, works ? "works" : std::strerror(number));
}

void open_sockets() {
  for (const int family : {AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_VSOCK}) {
    report(::socket(family, SOCK_DGRAM, 0) >= 0, "a socket of family " + std::to_string(family));
  }
}

void connect_to(const char* path) {
  const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(static_cast<char*>(address.sun_path), path, sizeof address.sun_path - 1);
  report(fd >= 0 && ::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0,
         std::string("the socket ") + path);
  ::close(fd);
}

bool can_connect(const char* host, const char* port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(std::atoi(port)));
  ::inet_pton(AF_INET, host, &address.sin_addr);
  const timeval limit{3, 0};  // what is dropped is not always told of
  ::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  const bool connected = ::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  const int number = errno;
  ::close(fd);
  errno = number;
  return connected;
}

/// A command to the flusher: it lets the group connect, and hangs up on the frontends' user.
void command_flusher() {
  const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(static_cast<char*>(address.sun_path), "/run/visitd/flusher.sock", sizeof address.sun_path - 1);
  const std::string request = "{\"command\":\"flush\"}\n";
  char answer[64];
  expect(fd >= 0 && ::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0,
         "finding the flusher's control socket");
  static_cast<void>(::send(fd, request.data(), request.size(), MSG_NOSIGNAL));
  errno = ECONNRESET;
  report(::recv(fd, static_cast<char*>(answer), sizeof answer, 0) > 0, "a command to the flusher");
  ::close(fd);
}

/// Where one got through, it is there afterwards.
void make_files(const std::vector<const char*>& folders) {
  for (const char* folder : folders) {
    const std::string path = std::string(folder) + "/visitd-probe";
    report(::open(path.c_str(), O_WRONLY | O_CREAT, 0600) >= 0, "a file " + path);
    report(::mkdir((path + "-folder").c_str(), 0700) == 0, "a folder " + path + "-folder");
  }
  report(::syscall(SYS_memfd_create, "probe", 0U) >= 0, "a file in memory");
}

void change_files() {
  for (const char* path : {"/run/visitd/rings", "/run/visitd/ring.lock", "/run/visitd/lane-0.lock"}) {
    report(::open(path, O_WRONLY) >= 0, std::string("writing to ") + path);
    report(::unlink(path) == 0, std::string("removing ") + path);
    report(::chmod(path, 0666) == 0, std::string("opening up ") + path);
  }
  report(::syscall(SYS_mq_open, "visitd-probe", O_RDWR | O_CREAT, 0600, nullptr) >= 0, "a message queue");
}

void fork_once() {
  const auto child = static_cast<pid_t>(::syscall(SYS_clone, SIGCHLD, nullptr, nullptr, nullptr, nullptr));
  if (child == 0) ::_exit(0);
  report(child > 0, "a process of its own");
}

void start_programs(char** environment) {
  for (const char* path : {"/bin/sh", "/usr/bin/env", "/usr/bin/python3", "/usr/bin/redis-server", "/proc/1/exe"}) {
    const char* const arguments[] = {path, nullptr};
    ::execve(path, const_cast<char**>(arguments), environment);
    report(false, std::string("executing ") + path);  // it did not return otherwise
  }
}

void make_code() {
  const auto prot = PROT_READ | PROT_WRITE | PROT_EXEC;
  report(::mmap(nullptr, 4096, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED, "memory to write code to");
  void* memory = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  report(::mprotect(memory, 4096, PROT_READ | PROT_EXEC) == 0, "making written memory code");
}

void touch_segments(int ring, int cache, int foreign) {
  const auto failed = reinterpret_cast<void*>(-1);
  expect(::shmat(ring, nullptr, 0) != failed, "writing to the ring");
  void* view = ::shmat(cache, nullptr, SHM_RDONLY);
  expect(view != failed, "reading the cache");
  report(::shmat(cache, nullptr, 0) != failed, "writing to the cache");
  report(::mprotect(view, 4096, PROT_READ | PROT_WRITE) == 0, "making the cache writable");
  shmid_ds state{};
  expect(::shmctl(cache, IPC_STAT, &state) == 0, "looking at the cache");
  state.shm_perm.mode = 0666;
  report(::shmctl(cache, IPC_SET, &state) == 0, "opening up the cache");
  report(::shmctl(cache, IPC_RMID, nullptr) == 0, "removing the cache");
  report(::shmat(foreign, nullptr, 0) != failed, "another's segment");
  report(::shmat(foreign, nullptr, SHM_RDONLY) != failed, "reading another's segment");
  report(::shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600) >= 0, "a segment of its own");
}

void reach_others() {
  for (const char* path : {"/proc/1/environ", "/proc/kcore", "/dev/mem", "/dev/kmsg", "/dev/rtc0"}) {
    report(::open(path, O_RDONLY) >= 0, std::string("reading ") + path);
  }
  report(::kill(1, 0) == 0, "a signal to process 1");
  report(::kill(-1, 0) == 0, "a signal to all processes");
  report(::syscall(SYS_ptrace, PTRACE_TRACEME, 0, nullptr, nullptr) == 0, "tracing");
  report(::syscall(SYS_unshare, CLONE_NEWUSER) == 0, "a user namespace");
  report(::syscall(SYS_mount, "tmpfs", "/tmp", "tmpfs", 0UL, nullptr) == 0, "a mount");
  report(::syscall(SYS_chroot, "/") == 0, "another root");
  report(::syscall(SYS_bpf, 0, nullptr, 0) == 0 || errno != EPERM, "a BPF program");
  report(::syscall(SYS_userfaultfd, 0) >= 0, "page faults of its own");
  report(::syscall(SYS_perf_event_open, nullptr, 0, -1, -1, 0UL) >= 0 || errno != EPERM, "performance counters");
  report(::syscall(SYS_keyctl, 0, -3, 0) >= 0, "the kernel's keys");
  report(::syscall(SYS_setuid, 0) == 0, "being root");
  report(::syscall(SYS_io_uring_setup, 1, nullptr) >= 0 || errno != EPERM, "io_uring");
  report(::syscall(SYS_personality, 0x0040000UL) != -1, "another personality");
}

int summary() {
  std::printf("%d got through, %d of what it needs failed\n", escapes, failures);
  return escapes == 0 && failures == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv, char** environment) {
  std::setvbuf(stdout, nullptr, _IONBF, 0);
  if (argc == 2 && std::strcmp(argv[1], "--loader") == 0) {
    // Its file may be executed, since the frontend needs it; what it loads may not.
    for (const char* loader : {"/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"}) {
      const char* const arguments[] = {loader, "/bin/sh", "-c", "echo GOT THROUGH", nullptr};
      ::execve(loader, const_cast<char**>(arguments), environment);
    }
    std::perror("executing the loader");
    return 0;
  }
  if (::geteuid() == 0) {
    std::fputs("cage_probe: root gets out of everything; run it as the frontends' user\n", stderr);
    return 2;
  }
  if (argc == 4 && std::strcmp(argv[1], "--flusher") == 0) {
    for (const int family : {AF_NETLINK, AF_PACKET, AF_VSOCK})
      report(::socket(family, SOCK_DGRAM, 0) >= 0, "a socket of family " + std::to_string(family));
    expect(can_connect("127.0.0.1", "7070"), "speaking to a shard");
    report(can_connect(argv[2], argv[3]), "speaking to another host");
    for (const char* folder : {"/run/visitd", "/var/lib/visitd"}) {
      const std::string path = std::string(folder) + "/visitd-probe";
      expect(::open(path.c_str(), O_WRONLY | O_CREAT, 0600) >= 0 && ::unlink(path.c_str()) == 0, path.c_str());
    }
    make_files(
        {"/run", "/run/systemd", "/var", "/var/lib", "/var/log", "/etc", "/usr", "/dev", "/dev/shm", "/home", ""});
    for (const char* path : {"/etc/shadow", "/etc/visitd/redis_password"})
      report(::open(path, O_RDONLY) >= 0, std::string("reading ") + path);
    start_programs(environment);
    make_code();
    reach_others();
    return summary();
  }
  if (argc >= 2 && std::strcmp(argv[1], "--uncaged") == 0) {
    open_sockets();
    connect_to("/run/dbus/system_bus_socket");
    make_files({"/run/visitd", "/var/tmp", "/tmp", "/dev/shm"});
    fork_once();
    make_code();
    if (argc == 4) report(can_connect(argv[2], argv[3]), "speaking to another host");
    return 0;
  }
  if (argc < 5) {
    std::fputs("cage_probe RING CACHE FOREIGN FILE...\n", stderr);
    return 2;
  }
  open_sockets();
  for (const char* path : {"/run/dbus/system_bus_socket", "/run/systemd/private", "/run/systemd/journal/stdout"})
    connect_to(path);
  command_flusher();
  make_files({"/run", "/run/visitd", "/run/systemd", "/var", "/var/lib/visitd", "/var/tmp", "/etc", "/tmp", "/usr",
              "/dev", "/dev/shm", "/dev/mqueue", "/proc", "/sys", "/home", ""});
  change_files();
  for (int i = 4; i < argc; ++i) report(::open(argv[i], O_RDONLY) >= 0, std::string("reading ") + argv[i]);
  fork_once();
  start_programs(environment);
  make_code();
  touch_segments(std::atoi(argv[1]), std::atoi(argv[2]), std::atoi(argv[3]));
  reach_others();
  return summary();
}
