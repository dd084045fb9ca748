#include <VX/vx.h>
#define VX_VIVANTE_IMPORT_KERNEL_FROM_FILE "vx_vivante_file"
