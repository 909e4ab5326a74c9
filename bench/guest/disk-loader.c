/*
 * Puts a memory image from an IDE disk where it belongs and enters it, for machines that cannot load a kernel themselves.
 *
 * The table behind this program (sector 16) says what goes where; disk.ts writes it.
 */

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;

#define TABLE_SECTOR 16
#define DATA 0x1f0
#define COUNT 0x1f2
#define LBA_LOW 0x1f3
#define LBA_MIDDLE 0x1f4
#define LBA_HIGH 0x1f5
#define DRIVE 0x1f6
#define COMMAND 0x1f7
#define READ_SECTORS 0x20
#define BUSY 0x80
#define DATA_REQUEST 0x08
#define COM1 0x3f8
#define TRANSMITTER_EMPTY 0x20

/* Filled in by disk.ts. */
struct table {
	u32 entry, eax, ebx, esi, pieces;
	struct piece {
		u32 address, sector, sectors;
	} piece[41];
};

static inline void outb(u8 value, u16 port)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline u8 inb(u16 port)
{
	u8 value;

	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

static void read_sector(u32 sector, void *to)
{
	u32 words = 256;

	outb(0xe0 | sector >> 24, DRIVE);
	outb(1, COUNT);
	outb(sector, LBA_LOW);
	outb(sector >> 8, LBA_MIDDLE);
	outb(sector >> 16, LBA_HIGH);
	outb(READ_SECTORS, COMMAND);
	while ((inb(COMMAND) & (BUSY | DATA_REQUEST)) != DATA_REQUEST)
		;
	__asm__ volatile("rep insw" : "+D"(to), "+c"(words) : "d"((u16)DATA) : "memory");
}

__attribute__((section(".start"), noreturn)) void load(void)
{
	static struct table table;
	const char *text = "entry\n";

	read_sector(TABLE_SECTOR, &table);
	for (u32 n = 0; n < table.pieces; n++) {
		const struct piece *piece = &table.piece[n];

		for (u32 i = 0; i < piece->sectors; i++)
			read_sector(piece->sector + i, (u8 *)piece->address + i * 512);
	}
	outb(3, COM1 + 3);
	for (; *text; text++) {
		while (!(inb(COM1 + 5) & TRANSMITTER_EMPTY))
			;
		outb(*text, COM1);
	}
	__asm__ volatile("xor %%ebp, %%ebp\n\tjmp *%%ecx" : : "c"(table.entry), "a"(table.eax), "b"(table.ebx), "S"(table.esi));
	__builtin_unreachable();
}
