# Runs cmake while nobody else does so in a folder: cmake -DFOLDER=DIR -P in-turn.cmake -- ARGUMENT...

# The system lets go of it when this process ends, in whatever way.
file(LOCK "${FOLDER}" DIRECTORY)
math(EXPR last "${CMAKE_ARGC} - 1")
foreach(index RANGE 5 ${last})
  list(APPEND arguments "${CMAKE_ARGV${index}}")
endforeach()
execute_process(COMMAND "${CMAKE_COMMAND}" ${arguments} RESULT_VARIABLE status)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "it ended with ${status}")
endif()
