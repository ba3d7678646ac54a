// LOG(INFO | WARNING | ERROR | FATAL), CHECK and CHECK_EQ...: glog's.
#ifndef ADRANK_BASE_LOG_H_
#define ADRANK_BASE_LOG_H_

#include <glog/logging.h>

namespace adrank {

// Sends the log to stderr, one line a message. Called once by each main().
void InitLogging(const char* program);

}  // namespace adrank

#endif  // ADRANK_BASE_LOG_H_
