# adrank_library(<folder> LINK <targets...>): one library a folder, of all its
# .cc files (sub-folders too) except *_main.cc. The link targets are the layering
# of the design; tests/layering_test.py checks the includes.
function(adrank_library name)
  cmake_parse_arguments(ARG "" "" "LINK" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cc)
  list(FILTER sources EXCLUDE REGEX "_main\\.cc$")
  if(sources)
    add_library(adrank_${name} STATIC ${sources})
    target_link_libraries(adrank_${name} PUBLIC ${ARG_LINK})
  else()
    add_library(adrank_${name} INTERFACE)
    target_link_libraries(adrank_${name} INTERFACE ${ARG_LINK})
  endif()
endfunction()

# adrank_tests(<name> LINK <targets...>): one test program of the folder's
# *_test.cc files.
function(adrank_tests name)
  cmake_parse_arguments(ARG "" "" "LINK" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${name}/*.cc)
  if(sources)
    add_executable(${name}_test ${sources})
    target_link_libraries(${name}_test PRIVATE ${ARG_LINK}
      GTest::gtest GTest::gmock GTest::gtest_main)
    # A third less to compile; what is tested keeps its own flags.
    target_compile_options(${name}_test PRIVATE $<$<CONFIG:Release>:-O1>
      $<$<CONFIG:RelWithDebInfo>:-O0>)
    add_test(NAME ${name} COMMAND ${name}_test
      WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
    set_tests_properties(${name} PROPERTIES TIMEOUT 600)
  endif()
endfunction()
